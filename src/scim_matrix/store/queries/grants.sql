-- touch_below --
-- Note the accounts of everybody below some members: users, users of groups among them, and so on.
WITH RECURSIVE below (id) AS (
    SELECT value FROM each_text(:members)
    UNION SELECT m.value FROM below CROSS JOIN group_member m WHERE m.group_id = below.id
)
INSERT INTO touched (account_id)
SELECT a.id FROM below CROSS JOIN account a WHERE a.scim_id = below.id
ON CONFLICT DO NOTHING

-- touch_account --
-- Note one account.
INSERT INTO touched (account_id) VALUES (:account_id) ON CONFLICT DO NOTHING

-- unsettle_mapping --
-- A mapping changed, or what it means: whom that reaches is found out in pieces.
UPDATE mapping SET unsettled = TRUE WHERE id = :mapping_id

-- unsettle_reference --
-- The same of every mapping that names a reference.
UPDATE mapping SET unsettled = TRUE WHERE reference = :reference AND standing <> 'overruled'

-- unsettle_everybody --
-- Note every user's account as unsettled.
INSERT INTO unsettled (account_id) SELECT id FROM account WHERE scim_id IS NOT NULL
ON CONFLICT DO NOTHING

-- unsettled_mappings --
-- Mappings whose last change has not been carried to those whom it reaches.
SELECT id FROM mapping WHERE unsettled ORDER BY id LIMIT :limit

-- spread_given --
-- Note every account that some mappings give something, or gave, by lines of their keys too that are
-- not in force.
INSERT INTO unsettled (account_id)
SELECT g.account_id
FROM each_number(:mappings) l CROSS JOIN mapping m CROSS JOIN mapping d CROSS JOIN mapping_grant g
WHERE m.id = l.value AND d.kind = m.kind AND d.pattern = m.pattern
AND (d.id = m.id OR d.standing <> 'in_force') AND g.mapping_id = d.id
ON CONFLICT DO NOTHING

-- spread_mapped --
-- Note the accounts of everybody whom some mappings reach and may give nothing yet.
WITH RECURSIVE below (id) AS (
    SELECT g.id FROM each_number(:mappings) l CROSS JOIN mapping m CROSS JOIN scim_group g
    WHERE m.id = l.value AND m.kind = 'external_id' AND g.external_id = m.pattern
    UNION SELECT m.pattern FROM each_number(:mappings) l CROSS JOIN mapping m
    WHERE m.id = l.value AND m.kind = 'group_id'
    UNION SELECT g.id FROM each_number(:mappings) l CROSS JOIN mapping m CROSS JOIN scim_group g
    WHERE m.id = l.value AND m.kind = 'display_name' AND matches(m.pattern, g.display_name)
    UNION SELECT gm.value FROM below CROSS JOIN group_member gm WHERE gm.group_id = below.id
)
INSERT INTO unsettled (account_id)
SELECT a.id FROM below CROSS JOIN account a WHERE a.scim_id = below.id
UNION SELECT a.id FROM each_number(:mappings) l CROSS JOIN mapping m CROSS JOIN account a
WHERE m.id = l.value AND m.kind = 'everyone' AND a.scim_id IS NOT NULL
ON CONFLICT DO NOTHING

-- spread --
-- Whom the last changes of some mappings reach is noted.
UPDATE mapping SET unsettled = FALSE WHERE id IN (SELECT value FROM each_number(:mappings))

-- is_left --
-- Whether a change of the map has still to be worked out: whom it reaches, and for whom.
SELECT EXISTS (SELECT 1 FROM mapping WHERE unsettled) AS mappings,
    EXISTS (SELECT 1 FROM unsettled) AS accounts

-- take --
-- Some of those who are unsettled.
INSERT INTO touched (account_id) SELECT account_id FROM unsettled ORDER BY account_id LIMIT :limit

-- spare_settled --
-- Of those noted only the unsettled ones.
DELETE FROM touched WHERE account_id NOT IN (SELECT account_id FROM unsettled)

-- settled --
-- Those noted are settled.
DELETE FROM unsettled WHERE account_id IN (SELECT account_id FROM touched)

-- given --
-- How many accounts mappings of a reference give something, or gave, by lines of their keys too
-- that are not in force (more than :most as :most).
SELECT count(*) AS number FROM (
    SELECT 1 FROM mapping m CROSS JOIN mapping d CROSS JOIN mapping_grant g
    WHERE m.reference = :reference AND d.kind = m.kind AND d.pattern = m.pattern
    AND (d.id = m.id OR d.standing <> 'in_force') AND g.mapping_id = d.id LIMIT :most) found

-- touch_given --
-- Note those accounts.
INSERT INTO touched (account_id)
SELECT g.account_id FROM mapping m CROSS JOIN mapping d CROSS JOIN mapping_grant g
WHERE m.reference = :reference AND d.kind = m.kind AND d.pattern = m.pattern
AND (d.id = m.id OR d.standing <> 'in_force') AND g.mapping_id = d.id
ON CONFLICT DO NOTHING

-- open --
-- Find what mapped groups give those noted now. The joins start from the few who are noted: CROSS
-- JOIN keeps the planner from starting at the many memberships of everybody else.
WITH RECURSIVE present (account_id, scim_id) AS (
    SELECT a.id, u.id FROM touched t CROSS JOIN account a CROSS JOIN scim_user u
    WHERE a.id = t.account_id AND u.id = a.scim_id AND u.active
),
above (account_id, group_id) AS (
    SELECT p.account_id, gm.group_id FROM present p CROSS JOIN group_member gm
    WHERE gm.value = p.scim_id
    UNION SELECT above.account_id, gm.group_id FROM above CROSS JOIN group_member gm
    WHERE gm.value = above.group_id
)
INSERT INTO opened (account_id, mapping_id, group_name)
SELECT account_id, mapping_id, min(group_name) FROM (
    SELECT above.account_id, m.id AS mapping_id, g.display_name AS group_name
    FROM above CROSS JOIN scim_group g CROSS JOIN mapping m
    WHERE g.id = above.group_id AND m.standing <> 'overruled'
    AND m.kind = 'external_id' AND m.pattern = g.external_id
    UNION ALL
    SELECT above.account_id, m.id, g.display_name
    FROM above CROSS JOIN scim_group g CROSS JOIN mapping m
    WHERE g.id = above.group_id AND m.standing <> 'overruled'
    AND m.kind = 'group_id' AND m.pattern = g.id
    UNION ALL
    SELECT above.account_id, m.id, g.display_name
    FROM above CROSS JOIN scim_group g CROSS JOIN mapping m
    WHERE g.id = above.group_id AND m.standing <> 'overruled'
    AND m.kind = 'display_name' AND matches(m.pattern, g.display_name)
    UNION ALL
    SELECT p.account_id, m.id, 'everyone' FROM present p CROSS JOIN mapping m
    WHERE m.kind = 'everyone' AND m.standing <> 'overruled'
) found GROUP BY account_id, mapping_id

-- grant --
-- What is given now is granted; a dropped mapping gives nobody anything new.
INSERT INTO mapping_grant (account_id, mapping_id, state, origin, group_name, request, tick)
SELECT n.account_id, n.mapping_id, 'granted', :origin, n.group_name, :request, :tick
FROM opened n
WHERE (SELECT m.standing FROM mapping m WHERE m.id = n.mapping_id) <> 'dropped'
OR EXISTS (SELECT 1 FROM mapping_grant g
    WHERE g.account_id = n.account_id AND g.mapping_id = n.mapping_id)
ON CONFLICT (account_id, mapping_id) DO UPDATE SET
    state = 'granted',
    group_name = excluded.group_name,
    origin = CASE mapping_grant.state WHEN 'granted' THEN mapping_grant.origin
        ELSE excluded.origin END,
    request = CASE mapping_grant.state WHEN 'granted' THEN mapping_grant.request
        ELSE excluded.request END,
    tick = CASE mapping_grant.state WHEN 'granted' THEN mapping_grant.tick ELSE excluded.tick END
WHERE mapping_grant.state <> 'granted'
    OR mapping_grant.group_name IS DISTINCT FROM excluded.group_name

-- revoke --
-- What was granted to those noted and is given no more is revoked.
UPDATE mapping_grant SET state = 'revoked', origin = :origin, request = :request, tick = :tick
WHERE state = 'granted' AND account_id IN (SELECT account_id FROM touched)
AND NOT EXISTS (SELECT 1 FROM opened o
    WHERE o.account_id = mapping_grant.account_id AND o.mapping_id = mapping_grant.mapping_id)

-- want --
-- The rooms that those noted are granted, by every mapping that is in force and followed there.
-- told: the last time that the identity provider gave it to them; request: what gave it. led: every
-- one of them rests on somebody's own power.
INSERT INTO wanted (room_id, account_id, group_name, power, invite, led, told, request)
SELECT o.room_id, g.account_id, min(g.group_name), max(m.power),
    count(*) FILTER (WHERE NOT m.invite) = 0, count(*) FILTER (WHERE o.led_by IS NULL) = 0,
    max(CASE g.origin WHEN 'identity_provider' THEN g.tick ELSE 0 END), max(g.request)
FROM touched t CROSS JOIN mapping_grant g CROSS JOIN mapping m CROSS JOIN opening o
WHERE g.account_id = t.account_id AND g.state = 'granted'
AND m.id = g.mapping_id AND m.standing = 'in_force'
AND o.mapping_id = m.id AND o.standing = 'followed'
GROUP BY o.room_id, g.account_id

-- want_room --
-- The same of one room only.
INSERT INTO wanted (room_id, account_id, group_name, power, invite, led, told, request)
SELECT o.room_id, g.account_id, min(g.group_name), max(m.power),
    count(*) FILTER (WHERE NOT m.invite) = 0, count(*) FILTER (WHERE o.led_by IS NULL) = 0,
    max(CASE g.origin WHEN 'identity_provider' THEN g.tick ELSE 0 END), max(g.request)
FROM opening o CROSS JOIN mapping m CROSS JOIN mapping_grant g CROSS JOIN touched t
WHERE o.room_id = :room_id AND o.standing = 'followed'
AND m.id = o.mapping_id AND m.standing = 'in_force'
AND g.mapping_id = m.id AND g.state = 'granted' AND t.account_id = g.account_id
GROUP BY o.room_id, g.account_id

-- regain --
-- Memberships that are granted now: what was held, or to be removed, is so no more. Who was let
-- stay by a human, or left by choice, is granted it anew only by the identity provider.
UPDATE membership SET
    state = 'granted', group_name = w.group_name, power = w.power, invite = w.invite, led = w.led,
    left_by_choice = membership.left_by_choice AND membership.tick >= w.told
        AND NOT (membership.invite AND NOT w.invite),
    brake = 'free', held_because = NULL, held_tick = NULL, approved_by = NULL,
    tick = CASE membership.state WHEN 'granted' THEN membership.tick ELSE :tick END,
    since = CASE membership.state WHEN 'granted' THEN membership.since ELSE :at END,
    request = CASE membership.state WHEN 'granted' THEN membership.request
        ELSE coalesce(:request, w.request) END,
    attempts = CASE membership.state WHEN 'granted' THEN membership.attempts ELSE 0 END,
    next_try = CASE membership.state WHEN 'granted' THEN membership.next_try ELSE 0 END,
    problem = CASE membership.state WHEN 'granted' THEN membership.problem END,
    reason = CASE membership.state WHEN 'granted' THEN membership.reason END
FROM wanted w
WHERE hint(membership.account_id IN (SELECT account_id FROM touched))
AND membership.room_id = w.room_id AND membership.account_id = w.account_id
AND (membership.state <> 'dismissed' OR w.told > membership.tick)
AND (membership.state <> 'granted' OR membership.group_name IS DISTINCT FROM w.group_name
    OR membership.power IS DISTINCT FROM w.power OR membership.invite <> w.invite
    OR membership.led <> w.led
    OR (membership.left_by_choice AND w.told > membership.tick))

-- gain --
-- Memberships that are granted for the first time.
INSERT INTO membership (room_id, account_id, state, group_name, power, invite, led, tick, since,
    request, fit)
SELECT w.room_id, w.account_id, 'granted', w.group_name, w.power, w.invite, w.led, :tick, :at,
    coalesce(:request, w.request), a.fit FROM wanted w CROSS JOIN account a
WHERE a.id = w.account_id ON CONFLICT (room_id, account_id) DO NOTHING

-- lose --
-- Memberships that are granted no more: revoked where the identity provider took them, forgotten
-- where the map no longer says so, or says so by a mapping that is suspended. A step that is not
-- followed keeps nobody in.
UPDATE membership SET state = CASE WHEN l.forgotten THEN 'forgotten' ELSE 'revoked' END,
    left_by_choice = l.forgotten AND left_by_choice,
    power = CASE WHEN l.forgotten THEN power END,
    tick = :tick, since = :at, request = :request, attempts = 0, next_try = 0,
    problem = NULL, reason = NULL
FROM (
    SELECT m.room_id, m.account_id, :origin = 'map' OR EXISTS (
        SELECT 1 FROM suspended_grant g
        WHERE g.account_id = m.account_id AND g.room_id = m.room_id) AS forgotten
    FROM touched t CROSS JOIN membership m WHERE m.account_id = t.account_id
    AND m.state = 'granted' AND NOT EXISTS (SELECT 1 FROM wanted w
        WHERE w.account_id = m.account_id AND w.room_id = m.room_id)
) l
WHERE hint(membership.account_id IN (SELECT account_id FROM touched))
AND membership.room_id = l.room_id AND membership.account_id = l.account_id

-- catch_up --
-- What the identity provider revoked while the room was forgotten is revoked now that the group
-- opens it again, by the same line of the map or by another one, and no suspended mapping keeps them
-- there. It is as old as that word.
UPDATE membership SET state = 'revoked', left_by_choice = FALSE, power = NULL,
    led = r.led, tick = r.told, since = :at, request = r.request, attempts = 0, next_try = 0,
    problem = NULL, reason = NULL
FROM (
    SELECT m.room_id, m.account_id, max(g.request) AS request,
        max(CASE WHEN g.heard > g.tick THEN g.heard ELSE g.tick END) AS told,
        count(*) FILTER (WHERE o.led_by IS NULL) = 0 AS led
    FROM touched t CROSS JOIN membership m CROSS JOIN mapping_grant g CROSS JOIN mapping d
    CROSS JOIN opening p CROSS JOIN mapping n CROSS JOIN opening o
    WHERE m.account_id = t.account_id AND m.state = 'forgotten' AND g.account_id = m.account_id
    AND g.state = 'revoked' AND g.origin = 'identity_provider' AND g.tick >= m.tick
    AND d.id = g.mapping_id AND p.mapping_id = d.id AND p.room_id = m.room_id
    AND p.standing = 'followed'
    AND n.kind = d.kind AND n.pattern = d.pattern AND n.standing = 'in_force'
    AND o.mapping_id = n.id AND o.room_id = m.room_id AND o.standing = 'followed'
    AND NOT EXISTS (
        SELECT 1 FROM suspended_grant k
        WHERE k.account_id = m.account_id AND k.room_id = m.room_id)
    GROUP BY m.room_id, m.account_id
) r
WHERE hint(membership.account_id IN (SELECT account_id FROM touched))
AND membership.room_id = r.room_id AND membership.account_id = r.account_id

-- would_have_had --
-- What a mapping gave and the identity provider took before its room was known: who is there is
-- as one who was forgotten before that, and is caught up with.
INSERT INTO membership (room_id, account_id, state, group_name, since)
SELECT :room_id, g.account_id, 'forgotten', g.group_name, :at
FROM mapping_grant g
WHERE g.mapping_id = :mapping_id AND g.state = 'revoked' AND g.origin = 'identity_provider'
ON CONFLICT (room_id, account_id) DO NOTHING

-- end_dropped --
-- Some dropped mappings by which nobody is in a room who is there for no other reason, and of which
-- it is known what they meant, once everybody is settled.
DELETE FROM mapping WHERE id IN (SELECT d.id FROM mapping d WHERE d.standing = 'dropped'
    AND NOT EXISTS (SELECT 1 FROM mapping p WHERE p.unsettled)
    AND NOT EXISTS (SELECT 1 FROM unsettled)
    AND NOT EXISTS (
        SELECT 1 FROM opening o CROSS JOIN membership m CROSS JOIN mapping_grant g
        WHERE o.mapping_id = d.id AND m.room_id = o.room_id
        AND m.state IN ('forgotten', 'revoked', 'pruned') AND m.observed IS DISTINCT FROM 'leave'
        AND g.account_id = m.account_id AND g.mapping_id = d.id)
    AND NOT EXISTS (
        SELECT 1 FROM room_reference r CROSS JOIN mapping_grant g
        WHERE r.reference = d.reference AND r.standing <> 'pinned' AND NOT r.absent
        AND g.mapping_id = d.id)
    ORDER BY d.id LIMIT :most)
RETURNING 1

-- carry --
-- What is known of everybody in one room counts in the room that takes its place; who is there
-- is not known yet. With a reference: of those whom its mappings give something, or gave. Without,
-- the room was upgraded, which copies its power levels: what the service gave it gave there too.
INSERT INTO membership (room_id, account_id, state, group_name, invite, led, left_by_choice, power,
    power_given, power_before, power_tried, brake, held_because, held_tick, approved_by, tick,
    since, request)
SELECT :successor, account_id, state, group_name, invite, led, left_by_choice, power,
    CASE WHEN CAST(:reference AS TEXT) IS NULL THEN power_given END, power_before,
    CASE WHEN CAST(:reference AS TEXT) IS NULL THEN power_tried END, brake, held_because,
    held_tick, approved_by, tick, since, request
FROM membership WHERE room_id = :room_id AND state <> 'excluded'
AND (CAST(:reference AS TEXT) IS NULL OR EXISTS (
    SELECT 1 FROM mapping_grant g JOIN mapping m ON m.id = g.mapping_id
    WHERE g.account_id = membership.account_id AND m.reference = :reference))
ON CONFLICT (room_id, account_id) DO UPDATE SET
    state = excluded.state, group_name = excluded.group_name, led = excluded.led,
    left_by_choice = excluded.left_by_choice, brake = excluded.brake,
    held_because = excluded.held_because, held_tick = excluded.held_tick,
    approved_by = excluded.approved_by, tick = excluded.tick, since = excluded.since,
    request = excluded.request, power = excluded.power,
    power_given = coalesce(excluded.power_given, membership.power_given),
    power_before = CASE WHEN excluded.power_given IS NULL THEN membership.power_before
        ELSE excluded.power_before END,
    power_tried = excluded.power_tried, attempts = 0, next_try = 0
WHERE membership.state = 'forgotten' AND excluded.state <> 'forgotten'

-- leave_behind --
-- Nobody is removed from a room whose place another took, unless it is still mapped otherwise.
UPDATE membership SET state = 'forgotten', brake = 'free', held_because = NULL, held_tick = NULL,
    approved_by = NULL, problem = NULL, reason = NULL, tick = :tick
WHERE room_id = :room_id AND state IN ('revoked', 'pruned', 'excluded')
AND NOT EXISTS (SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id
    WHERE o.room_id = :room_id AND m.standing <> 'dropped')

-- open_up_seen --
-- Rooms that hold nobody else no longer: whom no group ever put there is unmanaged again.
INSERT INTO unmanaged_member (room_id, user_id)
SELECT m.room_id, a.user_id FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.state = 'excluded' AND m.group_name IS NULL AND m.observed = 'join'
AND a.user_id IS NOT NULL AND m.room_id NOT IN (
    SELECT o.room_id FROM mapping p JOIN opening o ON o.mapping_id = p.id
    WHERE p.exclusive AND p.standing = 'in_force' AND o.standing = 'followed')
ON CONFLICT DO NOTHING

-- open_up_others --
-- So they are not known as managed.
DELETE FROM membership WHERE state = 'excluded' AND group_name IS NULL AND room_id NOT IN (
    SELECT o.room_id FROM mapping m JOIN opening o ON o.mapping_id = m.id
    WHERE m.exclusive AND m.standing = 'in_force' AND o.standing = 'followed')

-- open_up --
-- Others who were to leave for that are forgotten.
UPDATE membership SET state = 'forgotten', brake = 'free', held_because = NULL, held_tick = NULL,
    approved_by = NULL, problem = NULL, reason = NULL, tick = :tick
WHERE state = 'excluded' AND room_id NOT IN (
    SELECT o.room_id FROM mapping m JOIN opening o ON o.mapping_id = m.id
    WHERE m.exclusive AND m.standing = 'in_force' AND o.standing = 'followed')

-- forget_unmanaged --
-- Accounts that were known only for having to leave rooms.
DELETE FROM account WHERE desired = 'unmanaged'
AND NOT (locked_by_us OR suspended_by_us OR deactivated_by_us)
AND (unsure_until IS NULL OR unsure_until <= :at)
AND NOT EXISTS (SELECT 1 FROM membership m WHERE m.account_id = account.id
    AND m.state <> 'forgotten')

-- forget_members --
-- Who was seen in rooms that are mapped no more.
WITH RECURSIVE seen (room_id) AS (
    SELECT min(room_id) FROM unmanaged_member WHERE room_id > ''
    UNION ALL SELECT (SELECT min(u.room_id) FROM unmanaged_member u
        WHERE u.room_id > seen.room_id) FROM seen WHERE seen.room_id IS NOT NULL
)
DELETE FROM unmanaged_member WHERE room_id IN (
    SELECT room_id FROM seen WHERE room_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM opening o CROSS JOIN mapping m WHERE o.room_id = seen.room_id
        AND o.standing = 'followed' AND m.id = o.mapping_id AND m.standing = 'in_force'))

-- reasons --
-- Why accounts are granted a room: by which group, which key of the map, which reference.
SELECT DISTINCT o.room_id, g.account_id, g.group_name, m.kind, m.pattern, m.reference
FROM mapping_grant g JOIN mapping m ON m.id = g.mapping_id AND m.standing = 'in_force'
JOIN opening o ON o.mapping_id = m.id AND o.standing = 'followed'
WHERE g.state = 'granted' AND o.room_id = :room_id
ORDER BY 1, 2, 3 NULLS FIRST

-- reasons_of --
-- Why some accounts are granted rooms.
SELECT DISTINCT o.room_id, g.account_id, g.group_name, m.kind, m.pattern, m.reference
FROM each_number(:accounts) l CROSS JOIN mapping_grant g CROSS JOIN mapping m CROSS JOIN opening o
WHERE g.account_id = l.value AND g.state = 'granted'
AND m.id = g.mapping_id AND m.standing = 'in_force'
AND o.mapping_id = m.id AND o.standing = 'followed'
ORDER BY 1, 2, 3 NULLS FIRST
