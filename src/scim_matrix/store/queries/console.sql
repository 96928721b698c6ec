-- people_named --
-- People with some text in their user name, name, e-mail address or user ID, by indexes but for the
-- names of those whom nothing calls by a displayName; up to three words of a name in any order. As
-- many of each kind are looked for as are shown, so that a short text is no long search. Of those
-- whom the identity provider deleted the name and the addresses are known that their account had:
-- read one by one only where the text, as JSON has it (quoted), stands in there at all.
WITH found (id) AS (
    SELECT a.id FROM (SELECT id FROM scim_user
        WHERE place_in(user_name_key, :words) > 0 ORDER BY user_name_key LIMIT :limit) u
        CROSS JOIN account a WHERE a.scim_id = u.id
    UNION SELECT a.id FROM (SELECT seq FROM scim_user
        WHERE place_in(display_name_key, :first) > 0 AND place_in(display_name_key, :second) > 0
        AND place_in(display_name_key, :rest) > 0 ORDER BY display_name_key LIMIT :limit) d
        CROSS JOIN scim_user u CROSS JOIN account a WHERE u.seq = d.seq AND a.scim_id = u.id
    UNION SELECT a.id FROM (SELECT id FROM (SELECT id,
            folded(coalesce(text_at(document, '$.name.formatted'), '') || ' '
                || coalesce(text_at(document, '$.name.givenName'), '') || ' '
                || coalesce(text_at(document, '$.name.familyName'), '')) AS name
            FROM scim_user WHERE display_name_key IS NULL) nameless
        WHERE place_in(name, :first) > 0 AND place_in(name, :second) > 0
        AND place_in(name, :rest) > 0 LIMIT :limit) n CROSS JOIN account a WHERE a.scim_id = n.id
    UNION SELECT id FROM account WHERE scim_id = :exact
    UNION SELECT a.id FROM scim_user x CROSS JOIN account a
        WHERE x.external_id = :exact AND a.scim_id = x.id
    UNION SELECT a.id FROM (SELECT user_id FROM user_email
        WHERE place_in(value_key, :words) > 0 LIMIT :limit) e
        CROSS JOIN account a WHERE a.scim_id = e.user_id
    UNION SELECT id FROM (SELECT id FROM account
        WHERE place_in(user_id, :words) > 0 LIMIT :limit) b
    UNION SELECT id FROM (SELECT id FROM account
        WHERE place_in(proposed, :words) > 0 LIMIT :limit) p
    UNION SELECT id FROM (SELECT id FROM account
        WHERE scim_id IS NULL AND desired IN ('deleted', 'expired')
        AND place_in(folded(profile), :quoted) > 0 AND (place_in(folded(text_at(profile, '$.display_name')), :words) > 0 OR EXISTS (
            SELECT 1 FROM each_entry(text_at(profile, '$.emails')) e
            WHERE place_in(folded(e.atom), :words) > 0)) LIMIT :limit) g
)
SELECT a.scim_id, a.user_id, coalesce(a.user_id, a.proposed) AS account,
    u.document ->> 'userName' AS user_name,
    coalesce(u.document ->> 'displayName', text_at(a.profile, '$.display_name')) AS display_name,
    a.scim_id IS NULL AND a.desired <> 'unmanaged' AS is_deleted,
    CASE WHEN a.problem = 'conflict' THEN 'conflict' WHEN a.brake = 'held' THEN 'held'
        WHEN a.user_id IS NULL AND a.desired <> 'active' THEN 'no account'
        WHEN a.problem IS NOT NULL THEN a.problem
        WHEN a.todo IS NOT NULL THEN 'waiting' ELSE a.desired END AS state
FROM found f CROSS JOIN account a LEFT JOIN scim_user u ON u.id = a.scim_id
WHERE a.id = f.id
ORDER BY u.user_name_key NULLS LAST, a.user_id NULLS FIRST LIMIT :limit

-- needing --
-- What a human may have to settle, the most first: alike are those of one problem, room and reason,
-- of whom one is named.
WITH one (code, room, reason, cure, who, since, group_id, group_name) AS (
    SELECT CASE m.held_because WHEN 'restored' THEN 'restored' ELSE 'removals-held' END,
        m.room_id, CASE m.state WHEN 'excluded' THEN 'the room is to hold nobody else'
            WHEN 'pruned' THEN 'a human asked for it' END, NULL, a.user_id, m.since, NULL,
        CASE WHEN m.state = 'revoked' THEN m.group_name END
    FROM membership m CROSS JOIN account a
    WHERE m.brake = 'held' AND m.brake <> 'free' AND a.id = m.account_id
    UNION ALL
    SELECT CASE held_because WHEN 'restored' THEN 'restored' ELSE 'accounts-held' END,
        NULL, NULL, NULL, user_id, since, NULL, NULL FROM account WHERE brake = 'held' AND brake <> 'free'
    UNION ALL
    SELECT CASE WHEN m.todo IS NULL THEN 'power-refused' ELSE 'action-refused' END,
        m.room_id, m.reason, NULL, coalesce(a.user_id, a.proposed), m.since, NULL, NULL
    FROM membership m CROSS JOIN account a
    WHERE m.problem IS NOT NULL AND m.problem = 'refused' AND (m.todo IS NOT NULL OR m.power_todo)
    AND a.id = m.account_id
    UNION ALL
    SELECT CASE problem WHEN 'conflict' THEN 'account-conflict' ELSE 'account-failed' END,
        NULL, reason, cure, coalesce(user_id, proposed, scim_id), since, NULL, NULL
    FROM account WHERE problem IS NOT NULL AND (problem = 'conflict'
        OR (problem IN ('refused', 'unavailable') AND todo IS NOT NULL))
    UNION ALL
    SELECT CASE r.standing WHEN 'unresolved' THEN 'room-unresolved' WHEN 'waiting'
            THEN 'room-waits' ELSE 'alias-moved' END, r.reference, r.reason, r.cure, NULL, NULL,
        NULL, NULL
    FROM room_reference r WHERE r.reason IS NOT NULL AND EXISTS (SELECT 1 FROM mapping m
        WHERE m.reference = r.reference AND m.standing <> 'dropped')
    UNION ALL
    SELECT 'room-unusable', room_id, unusable, NULL, NULL, NULL, NULL, NULL
    FROM unusable_room
    UNION ALL
    SELECT 'upgrade-not-followed', room_id, reason, cure, NULL, NULL, NULL, NULL
    FROM unfollowed_upgrade
    UNION ALL
    SELECT 'child-not-followed', o.room_id, o.reason, o.cure, NULL, NULL, NULL, NULL
    FROM opening o JOIN mapping m ON m.id = o.mapping_id
    WHERE o.standing = 'not_followed' AND m.standing = 'in_force'
    UNION ALL
    SELECT 'mapping-suspended', reference, reason, cure, made_by, NULL,
        CASE kind WHEN 'group_id' THEN pattern END, NULL
    FROM mapping WHERE standing = 'suspended'
    UNION ALL
    SELECT 'removal-waits', m.room_id, NULL, NULL, a.user_id, m.since, NULL, NULL
    FROM room_count c CROSS JOIN membership m CROSS JOIN account a
    WHERE c.todo > 0 AND m.room_id = c.room_id AND m.todo IS NOT NULL AND m.state = 'revoked'
    AND m.brake = 'free' AND a.id = m.account_id AND a.user_id IS NOT NULL
    AND a.problem IS DISTINCT FROM 'conflict' AND NOT EXISTS (SELECT 1 FROM opening o
        JOIN mapping p ON p.id = o.mapping_id WHERE o.room_id = c.room_id
        AND o.standing = 'followed' AND p.standing = 'in_force')
),
alike AS (
    SELECT code, room, reason, cure, group_name, count(DISTINCT who) AS people, min(who) AS who,
        min(nullif(since, 0)) AS since, min(group_id) AS group_id
    FROM one GROUP BY code, room, reason, cure, group_name
),
placed AS (
    SELECT *, count(*) OVER (PARTITION BY code) AS alike,
        row_number() OVER (PARTITION BY code ORDER BY people DESC, room, reason, cure,
            group_name) AS place
    FROM alike
)
SELECT code, room, reason, cure, people, who, since, group_id, group_name, alike FROM placed
WHERE place <= :limit ORDER BY code, place

-- rooms_listed --
-- Every room that the map names, or that a step leads to: whether it is followed, and whether
-- something waits in it, from indexes and numbers that are kept. And those that it names no more, as
-- long as somebody is to leave them.
WITH named (reference, alias, room_id, standing, problem, cure) AS (
    SELECT r.reference, (SELECT min(m.alias) FROM mapping m WHERE m.reference = r.reference),
        coalesce(r.room_id, r.candidate),
        CASE WHEN r.standing = 'pinned' AND r.candidate IS NOT NULL THEN 'alias_moved'
            WHEN r.standing = 'pinned' THEN 'followed' ELSE r.standing END,
        r.reason, r.cure FROM room_reference r WHERE EXISTS (SELECT 1 FROM mapping m
            WHERE m.reference = r.reference AND m.standing <> 'dropped')
    UNION ALL
    SELECT m.reference, NULL, o.room_id, o.standing, o.reason, o.cure
    FROM mapping m CROSS JOIN opening o
    WHERE o.mapping_id = m.id AND o.via IS NOT NULL AND m.standing <> 'dropped'
),
holding (room_id, number) AS (
    SELECT room_id, count(*) FROM membership WHERE brake = 'held' AND brake <> 'free'
    GROUP BY room_id
),
refusing (room_id, powerless, refused) AS (
    SELECT room_id, count(CASE WHEN todo IS NULL THEN 1 END), count(todo) FROM membership
    WHERE problem IS NOT NULL AND problem = 'refused' AND (todo IS NOT NULL OR power_todo)
    GROUP BY room_id
),
left_over (room_id) AS (
    SELECT room_id FROM holding UNION SELECT room_id FROM room_count WHERE todo > 0
)
SELECT * FROM (SELECT DISTINCT n.room_id, coalesce(n.alias, n.reference) AS reference, n.standing,
    coalesce(t.unusable, n.problem, t.reason, (SELECT max(m.reason) FROM mapping m
        WHERE m.reference = n.reference AND m.standing = 'suspended')) AS problem,
    coalesce(n.cure, t.cure, (SELECT max(m.cure) FROM mapping m
        WHERE m.reference = n.reference AND m.standing = 'suspended')) AS cure,
    t.compared_at, coalesce(c.todo, 0) AS todo, coalesce(h.number, 0) AS held,
    coalesce(p.powerless, 0) AS powerless, coalesce(p.refused, 0) AS refused,
    EXISTS (SELECT 1 FROM unmanaged_member s WHERE s.room_id = n.room_id) AS by_hand
FROM (SELECT * FROM named UNION ALL
    SELECT l.room_id, NULL, l.room_id, 'unmapped', NULL, NULL FROM left_over l
    WHERE NOT EXISTS (SELECT 1 FROM named k WHERE k.room_id = l.room_id)) n
LEFT JOIN room t ON t.room_id = n.room_id LEFT JOIN room_count c ON c.room_id = n.room_id
LEFT JOIN holding h ON h.room_id = n.room_id LEFT JOIN refusing p ON p.room_id = n.room_id) listed
ORDER BY room_id NULLS FIRST, problem IS NULL, reference

-- rooms_counted --
-- How many people are in some rooms by what.
SELECT j.value AS room_id,
    (SELECT count(*) FROM unmanaged_member s WHERE s.room_id = j.value) AS unmanaged,
    count(CASE WHEN m.state = 'granted' THEN 1 END) AS granted,
    count(CASE WHEN m.state = 'granted' AND m.observed = 'join' THEN 1 END) AS joined
FROM each_text(:rooms) j LEFT JOIN membership m ON m.room_id = j.value GROUP BY j.value

-- rooms_opened_by --
-- What opens some rooms: groups by name, or by the part of it that the map says.
SELECT DISTINCT o.room_id, m.kind, m.pattern, coalesce(g.display_name,
        CASE WHEN m.kind = 'group_id' THEN coalesce((SELECT n.group_name FROM mapping_grant n
            WHERE n.mapping_id = m.id AND n.group_name IS NOT NULL LIMIT 1), m.pattern)
            || ' (deleted)' END, m.pattern) AS name,
    coalesce(g.id, CASE WHEN m.kind = 'group_id' THEN m.pattern END) AS group_id
FROM each_text(:rooms) j CROSS JOIN opening o CROSS JOIN mapping m
LEFT JOIN scim_group g ON g.id = (SELECT id FROM scim_group
        WHERE m.kind = 'external_id' AND external_id = m.pattern
    UNION ALL SELECT id FROM scim_group WHERE m.kind = 'group_id' AND id = m.pattern LIMIT 1)
WHERE o.room_id = j.value AND m.id = o.mapping_id AND m.standing <> 'dropped'
ORDER BY o.room_id, name

-- people_in --
-- Who is in a room, or should be; held ones first. Who has left for good is left out. Of those whom
-- nothing brings there it is told whom the map forgot, or gives the room by what is suspended.
-- Counted by itself: only those who are shown are sorted and read whole.
WITH found (account_id, user_id, held) AS NOT MATERIALIZED (
    SELECT m.account_id, coalesce(a.user_id, a.proposed), m.brake = 'held'
    FROM membership m CROSS JOIN account a
    WHERE m.room_id = :room_id AND a.id = m.account_id AND m.state <> 'forgotten'
    AND NOT (m.state <> 'granted' AND m.observed IS NOT DISTINCT FROM 'leave')
    AND (:words = '' OR place_in(lower(coalesce(a.user_id, a.proposed)), :words) > 0
        OR EXISTS (SELECT 1 FROM scim_user u
            WHERE u.id = a.scim_id AND place_in(u.display_name_key, :words) > 0))
    UNION ALL
    SELECT NULL, user_id, FALSE FROM unmanaged_member
    WHERE room_id = :room_id AND (:words = '' OR place_in(lower(user_id), :words) > 0
        OR EXISTS (SELECT 1 FROM account b CROSS JOIN scim_user u
            WHERE b.user_id = unmanaged_member.user_id AND u.id = b.scim_id
            AND place_in(u.display_name_key, :words) > 0))
),
shown AS (
    SELECT * FROM found ORDER BY held DESC, user_id NULLS FIRST LIMIT :limit OFFSET :offset
)
SELECT s.account_id, s.user_id, s.held, (SELECT count(*) FROM found) AS number,
    CASE WHEN s.account_id IS NULL THEN 'join' ELSE m.observed END AS membership,
    coalesce(m.state, (SELECT CASE WHEN EXISTS (SELECT 1 FROM suspended_grant g
            WHERE g.room_id = :room_id AND g.account_id = a.id) THEN 'suspended' ELSE k.state END
        FROM account a CROSS JOIN membership k WHERE a.user_id = s.user_id
        AND k.account_id = a.id AND k.room_id = :room_id AND k.state = 'forgotten'),
        'unmanaged') AS state, m.power, m.reason AS error, m.group_name,
    nullif(m.since, 0) AS since, m.request,
    coalesce(m.todo IS NOT NULL OR m.power_todo, FALSE) AS pending,
    (SELECT coalesce(u.document ->> 'displayName', text_at(n.profile, '$.display_name'))
        FROM account n LEFT JOIN scim_user u ON u.id = n.scim_id WHERE n.id = coalesce(
            s.account_id, (SELECT b.id FROM account b WHERE b.user_id = s.user_id))) AS name
FROM shown s LEFT JOIN membership m ON m.account_id = s.account_id AND m.room_id = :room_id
ORDER BY s.held DESC, s.user_id NULLS FIRST

-- staying --
-- Who would stay in a room that is to hold nobody else: to whom a group gives it, whom a human let
-- stay, and whose account may be a user's as far as anybody can tell (as in observed.sql, unmanaged).
SELECT a.user_id FROM membership m CROSS JOIN account a
WHERE m.room_id = :room_id AND m.state IN ('granted', 'dismissed') AND a.id = m.account_id
AND a.user_id IS NOT NULL
UNION SELECT a.proposed FROM each_text(:inside) j CROSS JOIN account a
WHERE a.proposed = j.value AND (a.problem = 'conflict' OR a.desired = 'active')
UNION SELECT a.barred FROM each_text(:inside) j CROSS JOIN account a
WHERE a.barred = j.value AND a.barred IS NOT NULL AND a.problem = 'conflict'

-- powerless --
-- How many people of a mapping are refused its power level, and why.
SELECT count(*) AS powerless, max(p.reason) AS power_reason
FROM opening o CROSS JOIN membership p CROSS JOIN mapping_grant g
WHERE o.mapping_id = :id AND o.standing = 'followed' AND p.room_id = o.room_id
AND p.problem IS NOT NULL AND p.problem = 'refused' AND p.power_todo AND p.power IS NOT NULL
AND g.mapping_id = o.mapping_id AND g.account_id = p.account_id AND g.state = 'granted'

-- of_nobody --
-- Mappings made in the console of groups that are gone: what opens which room.
SELECT DISTINCT m.pattern AS id, coalesce((SELECT g.group_name FROM mapping_grant g
        WHERE g.mapping_id = m.id AND g.group_name IS NOT NULL LIMIT 1), m.pattern) AS name,
    coalesce(m.alias, m.reference) AS room, r.room_id
FROM mapping m JOIN room_reference r ON r.reference = m.reference
WHERE m.kind = 'group_id' AND m.standing <> 'dropped'
AND NOT EXISTS (SELECT 1 FROM scim_group g WHERE g.id = m.pattern) ORDER BY name, room

-- reasons_of --
-- Why some accounts are granted a room: by which group, and which key of the map.
SELECT DISTINCT g.account_id, g.group_name, m.kind, m.pattern
FROM each_number(:accounts) j CROSS JOIN mapping_grant g CROSS JOIN mapping m CROSS JOIN opening o
WHERE g.account_id = j.value AND g.state = 'granted' AND m.id = g.mapping_id
AND m.standing = 'in_force' AND o.mapping_id = m.id AND o.room_id = :room_id
AND o.standing = 'followed' ORDER BY 1, 2 NULLS FIRST

-- members_of --
-- Members of a group, whom it may not know yet: by name, where there are not too many for that.
WITH counted (number) AS MATERIALIZED (
    SELECT count(*) FROM group_member WHERE group_id = :group_id
),
shown (id) AS (
    SELECT * FROM (SELECT value FROM group_member CROSS JOIN counted
        WHERE group_id = :group_id AND counted.number > :most
        ORDER BY value LIMIT :limit OFFSET :offset) unsorted
    UNION ALL
    SELECT id FROM (SELECT m.value AS id,
            coalesce(u.display_name_key, u.user_name_key, g.display_name_key) AS name
        FROM counted CROSS JOIN group_member m LEFT JOIN scim_user u ON u.id = m.value
        LEFT JOIN scim_group g ON g.id = m.value
        WHERE m.group_id = :group_id AND counted.number <= :most
        ORDER BY name NULLS LAST, m.value LIMIT :limit OFFSET :offset) sorted
)
SELECT s.id, g.id IS NOT NULL AS is_group, u.id IS NOT NULL AS is_user, counted.number,
    coalesce(u.document ->> 'displayName', u.document ->> 'userName', g.display_name, s.id) AS name
FROM counted CROSS JOIN shown s LEFT JOIN scim_user u ON u.id = s.id
LEFT JOIN scim_group g ON g.id = s.id
ORDER BY coalesce(u.display_name_key, u.user_name_key, g.display_name_key) NULLS LAST, s.id

-- members_named --
-- Members of a group with some text in their name or user name.
WITH found (id) AS (
    SELECT u.id FROM (SELECT user_name_key FROM scim_user
        WHERE place_in(user_name_key, :words) > 0) n CROSS JOIN scim_user u
        WHERE u.user_name_key = n.user_name_key
    UNION SELECT u.id FROM (SELECT seq FROM scim_user WHERE place_in(display_name_key, :words) > 0) d
        CROSS JOIN scim_user u WHERE u.seq = d.seq
    UNION SELECT id FROM scim_group WHERE place_in(display_name_key, :words) > 0
)
SELECT m.value AS id, g.id IS NOT NULL AS is_group, u.id IS NOT NULL AS is_user,
    coalesce(u.document ->> 'displayName', u.document ->> 'userName', g.display_name) AS name,
    count(*) OVER () AS number
FROM found CROSS JOIN group_member m LEFT JOIN scim_user u ON u.id = m.value
LEFT JOIN scim_group g ON g.id = m.value WHERE m.group_id = :group_id AND m.value = found.id
ORDER BY coalesce(u.display_name_key, u.user_name_key, g.display_name_key), m.value
LIMIT :limit OFFSET :offset

-- groups_listed --
-- Groups by name: those with some text in theirs, and where that is asked for those that the map
-- names, or does not. A name without wildcards is looked up by an index.
WITH wild (pattern) AS MATERIALIZED (
    SELECT DISTINCT pattern FROM mapping WHERE kind = 'display_name' AND standing <> 'dropped'
    AND (place_in(pattern, '*') > 0 OR place_in(pattern, '?') > 0 OR place_in(pattern, '[') > 0)
),
found AS (
    SELECT g.id, g.display_name, g.display_name_key, EXISTS (
        SELECT 1 FROM mapping m WHERE m.kind = 'external_id' AND m.pattern = g.external_id
            AND m.standing <> 'dropped'
        UNION ALL SELECT 1 FROM mapping m WHERE m.kind = 'group_id' AND m.pattern = g.id
            AND m.standing <> 'dropped'
        UNION ALL SELECT 1 FROM mapping m WHERE m.kind = 'display_name'
            AND m.pattern = g.display_name AND m.standing <> 'dropped'
        UNION ALL SELECT 1 FROM wild WHERE matches(wild.pattern, g.display_name)
    ) AS mapped
    FROM scim_group g WHERE place_in(g.display_name_key, :words) > 0
)
SELECT id, display_name, count(*) OVER () AS number FROM found
WHERE CAST(:mapped AS BOOLEAN) IS NULL OR mapped = :mapped
ORDER BY display_name_key, id LIMIT :limit OFFSET :offset

-- groups_by_name --
-- The groups that have some names, and how many have each.
SELECT g.display_name, min(g.id) AS id, count(*) AS number
FROM each_text(:keys) j CROSS JOIN scim_group g WHERE g.display_name_key = j.value
GROUP BY g.display_name

-- groups_opened --
-- What some groups open, as the map names it, and how many people are in them.
SELECT g.id, (SELECT count(*) FROM group_member n WHERE n.group_id = g.id) AS members,
    m.reference, coalesce(m.alias, m.reference) AS named, r.room_id, m.standing
FROM each_text(:groups) j CROSS JOIN scim_group g
LEFT JOIN mapping m ON m.id IN (
    SELECT id FROM mapping WHERE kind = 'external_id' AND pattern = g.external_id
    UNION ALL SELECT id FROM mapping WHERE kind = 'group_id' AND pattern = g.id
    UNION ALL SELECT id FROM mapping
        WHERE kind = 'display_name' AND matches(pattern, g.display_name))
    AND m.standing <> 'dropped'
LEFT JOIN room_reference r ON r.reference = m.reference
WHERE g.id = j.value ORDER BY g.display_name_key, g.id, named

-- held_places --
-- Where removals are held, the most first: how many, and how many managed people there are. Accounts
-- that are to be disabled have no room.
WITH held (room_id, number, invited) AS (
    SELECT room_id, count(*), count(CASE WHEN observed = 'invite' THEN 1 END)
    FROM membership WHERE brake = 'held' AND brake <> 'free' GROUP BY room_id
    UNION ALL
    SELECT NULL, count(*), 0 FROM account WHERE brake = 'held' AND brake <> 'free'
    HAVING count(*) > 0
),
page AS (
    SELECT *, count(*) OVER () AS places FROM held
    ORDER BY room_id IS NOT NULL, number DESC, room_id LIMIT :limit OFFSET :offset
)
SELECT room_id, number, invited, places, CASE WHEN room_id IS NULL THEN (
        SELECT count(*) FROM account WHERE user_id IS NOT NULL AND (usable OR brake = 'held'))
    ELSE (SELECT count(*) FROM membership m CROSS JOIN account a
        WHERE m.room_id = page.room_id AND a.id = m.account_id AND a.user_id IS NOT NULL
        AND m.state NOT IN ('forgotten', 'dismissed') AND (m.observed IN ('join', 'invite')
            OR (m.observed IS NULL AND m.state <> 'granted')))
    END AS managed, (SELECT t.unusable FROM room t WHERE t.room_id = page.room_id) AS unusable
FROM page

-- held_causes --
-- Because of which groups something is held in a room, or by what should be of them accounts are,
-- with how many, since when and by which requests.
SELECT group_name, held_because, why, count(*) AS people, min(since) AS since,
    max(since) AS last, count(DISTINCT request) AS requests,
    CASE WHEN count(DISTINCT coalesce(request, '')) = 1 THEN max(request) END AS request
FROM (SELECT CASE WHEN m.state = 'revoked' AND a.desired IN ('active', 'unmanaged')
        THEN m.group_name END AS group_name, m.held_because,
        CASE WHEN m.state <> 'revoked' THEN m.state
            WHEN a.desired IN ('active', 'unmanaged') THEN 'revoked' ELSE 'disabled' END AS why,
        nullif(m.since, 0) AS since, m.request FROM membership m CROSS JOIN account a
        WHERE m.room_id = :room_id AND m.brake = 'held' AND m.brake <> 'free'
        AND a.id = m.account_id
    UNION ALL SELECT NULL, held_because, 'account ' || desired, nullif(since, 0), request FROM account
        WHERE CAST(:room_id AS TEXT) IS NULL AND brake = 'held' AND brake <> 'free') cause
GROUP BY group_name, held_because, why
ORDER BY people DESC, group_name NULLS FIRST, held_because, why

-- held_people --
-- Whose removal from a room is held.
WITH shown AS (
    SELECT m.account_id, a.user_id, a.scim_id,
        CASE WHEN m.state <> 'excluded' THEN m.group_name END AS group_name, m.request,
        m.held_tick AS tick, nullif(m.since, 0) AS since
    FROM membership m CROSS JOIN account a
    WHERE m.room_id = :room_id AND m.brake = 'held' AND m.brake <> 'free' AND a.id = m.account_id
    ORDER BY a.user_id LIMIT :limit
)
SELECT s.account_id, s.user_id, s.group_name, s.request, s.tick, s.since,
    u.document ->> 'displayName' AS display_name
FROM shown s LEFT JOIN scim_user u ON u.id = s.scim_id ORDER BY s.user_id

-- held_spread --
-- What held removals of several rooms have in common: a request, or the group that no longer gives
-- the rooms; the most people first.
WITH held AS (
    SELECT room_id, request, CASE WHEN state = 'revoked' THEN group_name END AS group_name
    FROM membership WHERE brake = 'held' AND brake <> 'free'
)
SELECT CAST(NULL AS TEXT) AS group_name, request, count(*) AS people,
    count(DISTINCT room_id) AS rooms
FROM held WHERE request IS NOT NULL GROUP BY request HAVING count(DISTINCT room_id) > 1
UNION ALL
SELECT group_name, CAST(NULL AS TEXT), count(*), count(DISTINCT room_id)
FROM held WHERE group_name IS NOT NULL GROUP BY group_name HAVING count(DISTINCT room_id) > 1
ORDER BY 3 DESC, 1, 2 LIMIT :limit

-- held_of --
-- Whose removals are held because of a request or a group, whatever the room.
SELECT m.room_id, m.account_id, a.user_id, m.held_tick AS tick, count(*) OVER () AS number,
    coalesce(u.document ->> 'displayName', a.user_id) AS name
FROM membership m CROSS JOIN account a LEFT JOIN scim_user u ON u.id = a.scim_id
WHERE m.brake = 'held' AND m.brake <> 'free' AND a.id = m.account_id
AND (CAST(:request AS TEXT) IS NULL OR m.request = :request)
AND (CAST(:group_name AS TEXT) IS NULL OR (m.group_name = :group_name AND m.state = 'revoked'))
ORDER BY m.room_id, a.user_id LIMIT :limit

-- held_users --
-- Whose account is held from being disabled.
SELECT a.id AS account_id, a.user_id, NULL AS group_name, a.request, a.held_tick AS tick,
    nullif(a.since, 0) AS since, a.desired, a.expires, u.document ->> 'displayName' AS display_name
FROM account a LEFT JOIN scim_user u ON u.id = a.scim_id
WHERE a.brake = 'held' AND a.brake <> 'free' ORDER BY a.user_id NULLS FIRST LIMIT :limit
