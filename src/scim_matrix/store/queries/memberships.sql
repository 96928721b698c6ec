-- stirred --
-- Rooms in which what is due may have changed since a number ('' for the map).
SELECT room_id, number FROM stirred WHERE number > :since

-- places --
-- Every room in which there may be something to do.
SELECT DISTINCT room_id FROM opening UNION SELECT room_id FROM membership WHERE state = 'pruned'
UNION SELECT room_id FROM membership WHERE brake <> 'free' AND brake = 'approved'

-- work --
-- How much is due in some rooms (more than :most counts as :most), and when the next falls due. Work
-- waits while the account is not fit for it, or unsettled, and in rooms that are not mapped or
-- cannot be used; who was pruned, or whose removal a human approved, leaves rooms that are mapped no
-- more.
WITH place (room_id, is_mapped) AS (
    SELECT value, EXISTS (SELECT 1 FROM opening o JOIN mapping p ON p.id = o.mapping_id
        WHERE o.room_id = value AND o.standing = 'followed' AND p.standing = 'in_force')
    FROM each_text(:rooms)
)
SELECT p.room_id, CASE
    WHEN EXISTS (SELECT 1 FROM room r WHERE r.room_id = p.room_id AND r.unusable IS NOT NULL)
    THEN 0
    WHEN EXISTS (SELECT 1 FROM membership m WHERE m.room_id = p.room_id
        AND m.ready AND m.next_try <= :now AND p.is_mapped
        AND NOT EXISTS (SELECT 1 FROM unsettled n WHERE n.account_id = m.account_id))
    OR EXISTS (SELECT 1 FROM membership m WHERE m.room_id = p.room_id
        AND m.state = 'pruned' AND m.ready AND +m.next_try <= :now
        AND NOT EXISTS (SELECT 1 FROM unsettled n WHERE n.account_id = m.account_id))
    OR EXISTS (SELECT 1 FROM membership m WHERE m.room_id = p.room_id
        AND m.brake <> 'free' AND m.brake = 'approved' AND m.ready AND +m.next_try <= :now
        AND NOT EXISTS (SELECT 1 FROM unsettled n WHERE n.account_id = m.account_id))
    THEN (SELECT count(*) FROM (SELECT 1 FROM membership m WHERE m.room_id = p.room_id
        AND m.todo IS NOT NULL AND m.next_try <= :now LIMIT :most) found)
    WHEN EXISTS (SELECT 1 FROM membership m WHERE m.room_id = p.room_id AND m.power_todo
        AND m.todo IS NULL AND m.next_try <= :now AND m.fit > 0
        AND NOT EXISTS (SELECT 1 FROM room r WHERE r.room_id = p.room_id
            AND r.levels_unsure_until > :now)
        AND (p.is_mapped OR m.state = 'pruned' OR m.brake = 'approved')
        AND NOT EXISTS (SELECT 1 FROM unsettled n WHERE n.account_id = m.account_id))
    THEN 1 ELSE 0 END AS work,
    (SELECT min(m.next_try) FROM membership m WHERE m.room_id = p.room_id AND m.ready
        AND m.next_try > :now) AS ready_at,
    (SELECT min(m.next_try) FROM membership m WHERE m.room_id = p.room_id AND m.power_todo
        AND m.next_try > :now) AS power_at,
    (SELECT r.levels_unsure_until FROM room r WHERE r.room_id = p.room_id
        AND r.levels_unsure_until > :now) AS levels_at
FROM place p

-- due --
-- The memberships of a room that are due: removals, then the newest. Not of those for whom it has
-- not been worked out yet what a change of the map means.
SELECT m.*, a.user_id FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.room_id = :room_id AND m.ready AND +m.next_try <= :now
AND (m.state = 'pruned' OR m.brake = 'approved' OR EXISTS (
    SELECT 1 FROM opening o JOIN mapping p ON p.id = o.mapping_id
    WHERE o.room_id = :room_id AND o.standing = 'followed' AND p.standing = 'in_force'))
AND NOT EXISTS (SELECT 1 FROM unsettled n WHERE n.account_id = m.account_id)
AND NOT EXISTS (SELECT 1 FROM mapping p WHERE p.unsettled)
ORDER BY m.todo <> 'leave', m.since DESC, m.account_id DESC LIMIT :limit

-- spared --
-- Whom protection spared in a room, though they are to leave.
SELECT m.*, a.user_id FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.room_id = :room_id AND m.ready AND m.todo = 'leave' AND m.problem = 'spared'

-- end_sparing --
-- Somebody is protected no more, and counts for the brake as others do.
UPDATE membership SET problem = NULL, reason = NULL, attempts = 0, next_try = 0
WHERE room_id = :room_id AND account_id = :account_id AND problem = 'spared'

-- wait_for_identities --
-- Whoever is to leave a room that is to hold nobody else may be one of those who are granted it, as
-- long as it was not looked up of all of them whose accounts they have. Asked of each, so that those
-- who are granted it are not gone through where nobody is to leave.
UPDATE membership SET problem = 'unavailable', reason = :reason, next_try = :next_try
WHERE room_id = :room_id AND state = 'excluded' AND todo IS NOT NULL AND next_try <= :now
AND EXISTS (SELECT 1 FROM membership g JOIN account a ON a.id = g.account_id
    WHERE g.room_id = membership.room_id AND g.state = 'granted' AND a.user_id IS NULL
    AND a.desired = 'active' AND (a.problem IS NULL OR a.problem = 'unavailable'))

-- any_leaves --
-- Whether somebody is to leave a room now.
SELECT 1 FROM membership WHERE room_id = :room_id AND todo IS NOT NULL AND todo = 'leave'
AND next_try <= :now LIMIT 1

-- power_due --
-- The memberships of a room whose power level is due: of nobody who is to leave or come first, since
-- a refusal puts off both, and of none while what was asked before may still be carried out.
SELECT m.*, a.user_id FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.room_id = :room_id AND m.power_todo AND m.todo IS NULL AND m.next_try <= :now
AND m.fit > 0
AND NOT EXISTS (SELECT 1 FROM room r WHERE r.room_id = :room_id AND r.levels_unsure_until > :now)
AND NOT EXISTS (SELECT 1 FROM unsettled n WHERE n.account_id = m.account_id)
AND NOT EXISTS (SELECT 1 FROM mapping p WHERE p.unsettled)

-- joins_of --
-- The rooms that an account is to be brought into.
SELECT room_id, todo, group_name, request FROM membership
WHERE account_id = :account_id AND todo IN ('join', 'invite') ORDER BY room_id

-- next_due --
-- When the first work after a moment falls due that is not in rooms.
SELECT min(t) AS due FROM (
    SELECT min(next_try) AS t FROM account WHERE todo IS NOT NULL AND next_try > :after
    UNION ALL
    SELECT min(expires) FROM account WHERE expires > :after AND brake <> 'held'
    UNION ALL
    SELECT min(unsure_until) FROM account WHERE unsure_until > :after
    UNION ALL
    SELECT min(next_try) FROM room_reference WHERE standing <> 'pinned' AND next_try > :after
) moments

-- as_planned --
-- Whether there is still the work that a plan was made for, of the account that it was made for, and
-- by what was said and let through by then: as `due` and `wait_for_identities` have it.
SELECT 1 FROM membership m WHERE room_id = :room_id AND account_id = :account_id
AND state = :state AND todo = :todo AND ready AND tick = :tick
AND CASE WHEN brake = 'approved' THEN approved_by END IS NOT DISTINCT FROM :approved_by
AND (state = 'pruned' OR brake = 'approved' OR EXISTS (
    SELECT 1 FROM opening o JOIN mapping p ON p.id = o.mapping_id
    WHERE o.room_id = :room_id AND o.standing = 'followed' AND p.standing = 'in_force'))
AND (state <> 'excluded' OR NOT EXISTS (
    SELECT 1 FROM membership g JOIN account a ON a.id = g.account_id
    WHERE g.room_id = m.room_id AND g.state = 'granted' AND a.user_id IS NULL
    AND a.desired = 'active' AND (a.problem IS NULL OR a.problem = 'unavailable')))
AND EXISTS (SELECT 1 FROM account a WHERE a.id = :account_id AND a.user_id = :user_id)
AND NOT EXISTS (SELECT 1 FROM unsettled n WHERE n.account_id = :account_id)
AND NOT EXISTS (SELECT 1 FROM mapping p WHERE p.unsettled)

-- begin --
-- A request is about to leave: until its answer is here, the membership is not known. A removal
-- that had none is still to be told of.
UPDATE membership SET observed = NULL, leaving = leaving OR todo IS NOT DISTINCT FROM 'leave',
    invite_unsure_until = CASE WHEN todo IN ('join', 'invite') THEN CAST(:until AS DOUBLE PRECISION)
        ELSE invite_unsure_until END
WHERE room_id = :room_id AND account_id = :account_id

-- not_asked --
-- A removal was not asked for after all.
UPDATE membership SET leaving = FALSE WHERE room_id = :room_id AND account_id = :account_id
AND EXISTS (SELECT 1 FROM account a WHERE a.id = :account_id AND a.user_id = :user_id)

-- heard --
-- What was heard of a membership while a request was under way.
SELECT observed FROM membership WHERE room_id = :room_id AND account_id = :account_id
AND EXISTS (SELECT 1 FROM account a WHERE a.id = :account_id AND a.user_id = :user_id)

-- reach --
-- What an action led to, or found, of the account that it was about. What a human let through ends
-- with it. An invitation has had its answer, unless an earlier one had none; a removal that had none
-- may have been done before the person came back.
UPDATE membership SET observed = :observed, attempts = 0, next_try = 0, problem = NULL,
    reason = NULL, brake = 'free', held_because = NULL, held_tick = NULL, approved_by = NULL,
    leaving = leaving AND :observed <> 'leave',
    invite_unsure_until = CASE WHEN :observed <> 'leave' AND NOT :inviting THEN NULL
        ELSE invite_unsure_until END
WHERE room_id = :room_id AND account_id = :account_id
AND EXISTS (SELECT 1 FROM account a WHERE a.id = :account_id AND a.user_id = :user_id)

-- fail --
-- Why an action did not succeed, and when to try again: where it is what is wanted still.
UPDATE membership SET attempts = attempts + 1, problem = :problem, reason = :reason,
    next_try = :next_try,
    leaving = leaving AND (:problem = 'unavailable' OR todo IS DISTINCT FROM 'leave')
WHERE room_id = :room_id AND account_id = :account_id AND state = :state AND tick = :tick
AND EXISTS (SELECT 1 FROM account a WHERE a.id = :account_id AND a.user_id = :user_id)

-- try_power --
-- A power level is about to be sent.
UPDATE membership SET power_tried = :tried, power_before = :before
WHERE room_id = :room_id AND account_id = :account_id
AND EXISTS (SELECT 1 FROM account a WHERE a.id = :account_id AND a.user_id = :user_id)

-- reach_power --
-- The power level that the service has given an account, none once it was taken back.
UPDATE membership SET power_given = :given, power_before = :before, power_tried = NULL,
    attempts = 0, next_try = 0, problem = NULL, reason = NULL
WHERE room_id = :room_id AND account_id = :account_id
AND EXISTS (SELECT 1 FROM account a WHERE a.id = :account_id AND a.user_id = :user_id)

-- prune --
-- Removals of those whom the map forgot, and of those revoked in rooms that it forgot; not of those
-- whom a mapping gives the room that is only suspended, and removes nobody.
UPDATE membership SET state = 'pruned', left_by_choice = FALSE, attempts = 0, next_try = 0,
    problem = NULL, reason = NULL, tick = :tick, since = :at, request = :request
WHERE observed IS DISTINCT FROM 'leave' AND observed IS DISTINCT FROM 'ban'
AND (state = 'forgotten' OR (state = 'revoked'
    AND NOT EXISTS (SELECT 1 FROM opening o JOIN mapping p ON p.id = o.mapping_id
        WHERE o.room_id = membership.room_id AND o.standing = 'followed'
        AND p.standing = 'in_force')))
AND NOT EXISTS (SELECT 1 FROM suspended_grant g
    WHERE g.account_id = membership.account_id AND g.room_id = membership.room_id)
RETURNING 1

-- prune_one --
-- The same for somebody whom a human takes out with a mapping.
UPDATE membership SET state = 'pruned', left_by_choice = FALSE, attempts = 0, next_try = 0,
    problem = NULL, reason = NULL, tick = :tick, since = :at, request = :request
WHERE room_id = :room_id AND account_id = :account_id AND state = 'forgotten'
AND NOT EXISTS (SELECT 1 FROM suspended_grant g
    WHERE g.account_id = :account_id AND g.room_id = :room_id)
RETURNING 1

-- retry --
-- Those whom protection spared, or dry run withheld, are tried again.
UPDATE membership SET next_try = 0 WHERE problem = :problem
AND (CAST(:room_id AS TEXT) IS NULL OR room_id = :room_id)

-- bound_rests --
-- No rest outlasts the longest one, whatever the clock said when it began.
UPDATE membership SET next_try = :latest WHERE next_try > :latest AND next_try > 0

-- bound_account_rests --
-- The same for accounts.
UPDATE account SET next_try = :latest WHERE next_try > :latest

-- counts --
-- How much is pending, failing and held, and what is shown for a human.
SELECT
    (SELECT count(*) FROM membership m WHERE (m.todo IS NOT NULL OR m.power_todo)
        AND m.problem IS DISTINCT FROM 'spared' AND m.problem IS DISTINCT FROM 'withheld'
        AND (m.state = 'pruned' OR m.brake = 'approved' OR EXISTS (SELECT 1 FROM opening o
            JOIN mapping p ON p.id = o.mapping_id WHERE o.room_id = m.room_id
            AND o.standing = 'followed' AND p.standing = 'in_force'))
        AND EXISTS (SELECT 1 FROM account a WHERE a.id = m.account_id
            AND a.problem IS DISTINCT FROM 'conflict'
            AND (a.usable OR m.todo = 'leave' OR a.problem IS DISTINCT FROM 'refused')
            AND (a.user_id IS NOT NULL OR (a.desired = 'active' AND m.todo <> 'leave'))
            AND a.problem IS DISTINCT FROM 'withheld'
            AND (m.todo IS NULL OR m.todo = 'leave' OR a.by_hand IS DISTINCT FROM 'deactivated'))
    ) AS "pendingPairs",
    (SELECT count(*) FROM membership m WHERE (m.todo IS NOT NULL OR m.power_todo)
        AND (m.problem IN ('refused', 'unavailable') OR EXISTS (SELECT 1 FROM room r
            WHERE r.room_id = m.room_id AND r.unusable IS NOT NULL))) AS "failingPairs",
    (SELECT count(*) FROM account WHERE todo IS NOT NULL
        AND (problem IS NULL OR problem NOT IN ('conflict', 'spared', 'withheld')))
        AS "pendingAccounts",
    (SELECT count(*) FROM account WHERE todo IS NOT NULL
        AND problem IN ('refused', 'unavailable')) AS "failingAccounts",
    (SELECT count(*) FROM membership WHERE problem = 'withheld' AND (todo IS NOT NULL
        OR power_todo)) AS "withheldPairs",
    (SELECT count(*) FROM account WHERE problem = 'withheld' AND todo IS NOT NULL)
        AS "withheldAccounts",
    (SELECT count(*) FROM unusable_room)
        + (SELECT count(*) FROM room_reference r WHERE standing = 'unresolved'
            AND reason IS NOT NULL AND EXISTS (SELECT 1 FROM mapping m
                WHERE m.reference = r.reference AND m.standing <> 'dropped')) AS "failingRooms",
    (SELECT count(*) FROM membership WHERE brake = 'held' AND brake <> 'free')
        AS "heldPairs",
    (SELECT count(*) FROM account WHERE brake = 'held' AND brake <> 'free')
        AS "heldAccounts",
    (SELECT count(*) FROM account WHERE problem = 'conflict') AS "conflictingAccounts",
    (SELECT count(*) FROM membership WHERE problem = 'spared' AND todo IS NOT NULL)
        AS "sparedPairs",
    (SELECT count(*) FROM account WHERE problem = 'spared') AS "sparedAccounts",
    (SELECT count(*) FROM (SELECT DISTINCT o.room_id FROM opening o JOIN mapping p
        ON p.id = o.mapping_id WHERE o.standing = 'not_followed' AND p.standing = 'in_force') s)
        + (SELECT count(*) FROM room_reference r WHERE candidate IS NOT NULL
            AND EXISTS (SELECT 1 FROM mapping m
                WHERE m.reference = r.reference AND m.standing <> 'dropped'))
        + (SELECT count(*) FROM unfollowed_upgrade) AS "notFollowed",
    (SELECT count(*) FROM mapping WHERE standing = 'suspended') AS "suspendedMappings",
    (SELECT count(*) FROM unmanaged_member) AS "unmanagedMembers"
