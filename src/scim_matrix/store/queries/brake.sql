-- room_tally --
-- How many people of a room were removed since a time, are to be, or wait; and of how many.
WITH done (account) AS (
    SELECT user_id FROM action WHERE room_id = :room_id AND kind = 'kick' AND outcome = 'done'
    AND NOT approved AND at >= :since
),
waiting (account) AS (
    SELECT a.user_id FROM membership m JOIN account a ON a.id = m.account_id
    WHERE m.room_id = :room_id AND a.user_id IS NOT NULL
    AND (m.brake = 'held' OR (m.todo = 'leave' AND m.brake = 'free'
        AND m.problem IS DISTINCT FROM 'spared'))
),
present (account) AS (
    SELECT a.user_id FROM membership m JOIN account a ON a.id = m.account_id
    WHERE m.room_id = :room_id AND a.user_id IS NOT NULL
    AND m.state NOT IN ('forgotten', 'dismissed')
    AND (m.observed IN ('join', 'invite') OR (m.observed IS NULL AND m.state <> 'granted'))
)
SELECT (SELECT count(*) FROM (SELECT account FROM done UNION SELECT account FROM waiting) n)
    AS removed,
    (SELECT count(*) FROM (SELECT account FROM done UNION SELECT account FROM present) n)
    AS managed

-- account_tally --
-- How many accounts were disabled since a time, are to be, or wait; and of how many. Those that an
-- older version wrote down and nobody has looked at yet are as they were left.
WITH done (account) AS (
    SELECT user_id FROM action WHERE kind IN ('lock', 'suspend', 'deactivate', 'erase')
    AND outcome = 'done' AND NOT approved AND at >= :since
    UNION SELECT user_id FROM account WHERE id = :id
),
waiting (account) AS (
    SELECT user_id FROM account WHERE user_id IS NOT NULL AND (brake = 'held'
        OR (todo = 'disable' AND brake = 'free' AND problem IS DISTINCT FROM 'spared'))
),
present (account) AS (
    SELECT user_id FROM account WHERE user_id IS NOT NULL
    AND CASE bound_by WHEN 'migrated' THEN NOT locked_by_us ELSE usable OR todo = 'disable' END
)
SELECT (SELECT count(*) FROM (SELECT account FROM done UNION SELECT account FROM waiting) n)
    AS removed,
    (SELECT count(*) FROM (SELECT account FROM done UNION SELECT account FROM present) n)
    AS managed

-- hold_room --
-- The removals of a room that nobody has let through wait for a human.
UPDATE membership SET brake = 'held', held_because = 'limit', held_tick = :tick
WHERE room_id = :room_id AND todo = 'leave' AND brake = 'free'
AND problem IS DISTINCT FROM 'spared'
AND (SELECT user_id FROM account a WHERE a.id = account_id) IS NOT NULL
RETURNING (SELECT user_id FROM account a WHERE a.id = account_id) AS user_id, room_id,
    CASE WHEN state <> 'excluded' THEN group_name END AS group_name, request

-- hold_restored_room --
-- Removals that only a backup put back speaks of wait until they are confirmed.
UPDATE membership SET brake = 'held', held_because = 'restored', held_tick = :tick
WHERE room_id = :room_id AND todo = 'leave' AND brake = 'free'
AND tick <= (SELECT coalesce(restored_tick, -1) FROM installation)
RETURNING (SELECT user_id FROM account a WHERE a.id = account_id) AS user_id, room_id,
    CASE WHEN state <> 'excluded' THEN group_name END AS group_name, request

-- hold_accounts --
-- An account and all others that are to be disabled wait for a human, but those whose request is
-- on its way, or may still be carried out: they ask by themselves.
UPDATE account SET brake = 'held', held_because = 'limit', held_tick = :tick
WHERE user_id IS NOT NULL AND todo = 'disable' AND brake = 'free'
AND (id = :id
    OR (doing IS NULL AND unsure_of IS NULL AND problem IS DISTINCT FROM 'spared'))
RETURNING user_id, request

-- hold_restored_account --
-- An account that only a backup put back says is to be disabled waits until that is confirmed.
UPDATE account SET brake = 'held', held_because = 'restored', held_tick = :tick
WHERE id = :id AND todo = 'disable' AND brake = 'free'
AND tick <= (SELECT coalesce(restored_tick, -1) FROM installation)
RETURNING user_id, request

-- held_memberships --
-- What waits for a human, in one room or in all.
SELECT m.room_id, m.account_id, a.user_id,
    CASE WHEN m.state <> 'excluded' THEN m.group_name END AS group_name, m.request, m.held_tick,
    m.held_because
FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.brake = 'held' AND m.brake <> 'free' AND (CAST(:room_id AS TEXT) IS NULL OR m.room_id = :room_id)
ORDER BY m.room_id, a.user_id NULLS FIRST

-- held_accounts --
-- The accounts that wait for a human.
SELECT NULL AS room_id, id AS account_id, user_id, NULL AS group_name, request, held_tick,
    held_because
FROM account WHERE brake = 'held' AND brake <> 'free' ORDER BY user_id NULLS FIRST

-- approve_membership --
-- One removal is let through, once.
UPDATE membership SET brake = 'approved', approved_by = :by, held_because = NULL,
    held_tick = NULL, attempts = 0, next_try = 0
WHERE room_id = :room_id AND account_id = :account_id AND brake = 'held'
AND held_tick = :held_tick RETURNING 1

-- dismiss_membership --
-- One removal is dropped: they stay until the identity provider grants them the room anew.
UPDATE membership SET state = 'dismissed', brake = 'free', held_because = NULL, held_tick = NULL,
    attempts = 0, next_try = 0, problem = NULL, reason = NULL, tick = :tick
WHERE room_id = :room_id AND account_id = :account_id AND brake = 'held'
AND held_tick = :held_tick RETURNING 1

-- approve_account --
-- One account is let through, once.
UPDATE account SET brake = 'approved', approved_by = :by, held_because = NULL, held_tick = NULL,
    attempts = 0, next_try = 0
WHERE id = :account_id AND brake = 'held' AND held_tick = :held_tick RETURNING 1

-- dismiss_account --
-- One account stays as it is until the identity provider says something new of its user.
UPDATE account SET brake = 'free', held_because = NULL, held_tick = NULL, problem = 'dismissed',
    reason = 'a human let the account be', expires = NULL, attempts = 0, next_try = 0
WHERE id = :account_id AND brake = 'held' AND held_tick = :held_tick RETURNING 1

-- decided_before --
-- What humans decided last about some people in a place (no room: their accounts), where nothing was
-- held of them since.
SELECT a.outcome AS decision, a.decided_by AS by_whom, max(a.at) AS at, count(*) AS number
FROM each_text(:users) u CROSS JOIN action a
WHERE a.id = (SELECT max(id) FROM action WHERE user_id = u.value AND kind = :kind
    AND outcome IN ('held', 'approved', 'dismissed')
    AND room_id IS NOT DISTINCT FROM CAST(:room_id AS TEXT))
AND a.outcome <> 'held'
GROUP BY a.outcome, a.decided_by ORDER BY max(a.id)

-- end_approvals --
-- What was approved before a backup was made may be done, and the opposite said since.
UPDATE membership SET brake = 'free', approved_by = NULL
WHERE brake = 'approved' AND brake <> 'free'

-- doubt_removed --
-- Who was out of a room when a backup was made may have been invited since.
UPDATE membership SET observed = NULL
WHERE observed = 'leave' AND state IN ('revoked', 'pruned', 'excluded')
AND EXISTS (SELECT 1 FROM opening o JOIN mapping p ON p.id = o.mapping_id
    WHERE o.room_id = membership.room_id AND o.standing = 'followed' AND p.standing = 'in_force')

-- end_account_approvals --
-- The same for accounts.
UPDATE account SET brake = 'free', approved_by = NULL
WHERE brake = 'approved' AND brake <> 'free'

-- free_restored_memberships --
-- A human says that the backup is right: what it alone spoke of goes the usual way.
UPDATE membership SET brake = 'free', held_because = NULL, held_tick = NULL
WHERE held_because = 'restored' AND brake <> 'free' RETURNING 1

-- free_restored_accounts --
-- The same for accounts.
UPDATE account SET brake = 'free', held_because = NULL, held_tick = NULL
WHERE held_because = 'restored' AND brake <> 'free' RETURNING 1

-- hear_grants --
-- The identity provider has spoken of a group, as a whole or of some members: what it revoked is so.
-- Where the group holds others, those may be as only the backup has them.
UPDATE mapping_grant SET heard = :tick
WHERE state = 'revoked' AND mapping_id IN (
    SELECT m.id FROM scim_group g CROSS JOIN mapping m WHERE g.id = :group_id
    AND ((m.kind = 'external_id' AND m.pattern = g.external_id)
        OR (m.kind = 'group_id' AND m.pattern = g.id)
        OR (m.kind = 'display_name' AND matches(m.pattern, g.display_name))))
AND (CAST(:members AS TEXT) IS NULL OR account_id IN (
    SELECT a.id FROM each_entry(:members) e CROSS JOIN account a
    WHERE a.scim_id = e.value ->> 'value'))
AND NOT EXISTS (SELECT 1 FROM group_member n CROSS JOIN scim_group g
    WHERE n.group_id = :group_id AND g.id = n.value)

-- hear_memberships --
-- A removal is newer than any backup once that holds for everything that once granted the room.
UPDATE membership SET tick = :tick,
    brake = CASE held_because WHEN 'restored' THEN 'free' ELSE brake END,
    held_tick = CASE held_because WHEN 'restored' THEN NULL ELSE held_tick END,
    held_because = CASE held_because WHEN 'restored' THEN NULL ELSE held_because END
FROM installation i, mapping_grant h CROSS JOIN opening o
WHERE h.heard = :tick AND h.heard > 0 AND o.mapping_id = h.mapping_id
AND membership.room_id = o.room_id AND membership.account_id = h.account_id
AND membership.state = 'revoked' AND NOT EXISTS (
    SELECT 1 FROM mapping_grant g CROSS JOIN opening p
    WHERE g.account_id = membership.account_id AND g.state = 'revoked'
    AND g.tick <= i.restored_tick AND g.heard <= i.restored_tick
    AND p.mapping_id = g.mapping_id AND p.room_id = membership.room_id)

-- heard_of_user --
-- The identity provider has said that a user is inactive or gone: so for what was revoked of them.
UPDATE membership SET tick = :tick,
    brake = CASE held_because WHEN 'restored' THEN 'free' ELSE brake END,
    held_tick = CASE held_because WHEN 'restored' THEN NULL ELSE held_tick END,
    held_because = CASE held_because WHEN 'restored' THEN NULL ELSE held_because END
WHERE state = 'revoked' AND account_id = (
    SELECT id FROM account WHERE scim_id = :scim_id AND (desired <> 'active' OR :is_gone))

-- heard_of_account --
-- The identity provider has spoken of a user: what it says is newer than any backup.
UPDATE account SET tick = :tick,
    brake = CASE held_because WHEN 'restored' THEN 'free' ELSE brake END,
    held_tick = CASE held_because WHEN 'restored' THEN NULL ELSE held_tick END,
    held_because = CASE held_because WHEN 'restored' THEN NULL ELSE held_because END
WHERE scim_id = :scim_id
