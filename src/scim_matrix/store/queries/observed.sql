-- enable --
-- A room can be used.
UPDATE room SET unusable = NULL WHERE room_id = :room_id AND unusable IS NOT NULL

-- compared --
-- When a room was last compared with the homeserver.
INSERT INTO room (room_id, compared_at) VALUES (:room_id, :at)
ON CONFLICT (room_id) DO UPDATE SET compared_at = excluded.compared_at

-- missing --
-- Who is granted a room, was in it, and is no longer.
SELECT a.user_id FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.room_id = :room_id AND m.state = 'granted' AND m.observed = 'join' AND NOT m.invite
AND a.user_id IS NOT NULL AND a.user_id NOT IN (SELECT value FROM each_text(:joined))

-- observe --
-- What is known of the memberships of a room, where it was read who is in it, and who is invited
-- where that matters. Who was invited or banned stays so unless found in the room. Somebody
-- granted it by invitation who is gone is not invited again. Whoever is to leave, or whose
-- invitation had no answer, is not known to be out where it was not `asked` who is invited, but for
-- those of whom a backup that was put back says it. An invitation that is not the service's is left
-- to whoever is out. Who could not be removed, and is still there, rests as that was put off: others
-- go first.
UPDATE membership SET
    observed = CASE
        WHEN a.user_id IN (SELECT value FROM each_text(:joined)) THEN 'join'
        WHEN observed IN ('invite', 'ban', 'knock') THEN observed
        WHEN observed = 'leave' AND state IN ('revoked', 'pruned', 'excluded')
            AND a.user_id IN (SELECT value FROM each_text(:by_others)) THEN 'leave'
        WHEN a.user_id IN (SELECT value FROM each_text(:invited)) THEN 'invite'
        WHEN observed IS NULL AND NOT :asked
            AND (state IN ('revoked', 'pruned', 'excluded') OR invite_unsure_until IS NOT NULL
                OR leaving)
            AND NOT EXISTS (SELECT 1 FROM installation i WHERE membership.tick <= i.restored_tick)
        THEN NULL
        ELSE 'leave' END,
    left_by_choice = CASE
        WHEN a.user_id IN (SELECT value FROM each_text(:joined)) THEN FALSE
        WHEN state = 'granted' AND invite AND observed IS NOT DISTINCT FROM 'join' THEN TRUE
        ELSE left_by_choice END,
    tick = CASE WHEN state = 'granted' AND invite AND observed IS NOT DISTINCT FROM 'join'
        AND a.user_id NOT IN (SELECT value FROM each_text(:joined)) THEN :tick
        ELSE membership.tick END,
    next_try = CASE WHEN a.user_id IN (SELECT value FROM each_text(:joined))
        AND observed IS DISTINCT FROM 'join' AND (state = 'granted' OR observed IS NOT NULL)
        THEN 0 ELSE membership.next_try END,
    leaving = leaving AND a.user_id NOT IN (SELECT value FROM each_text(:joined))
        AND a.user_id NOT IN (SELECT value FROM each_text(:invited)),
    invite_unsure_until = CASE WHEN :asked AND invite_unsure_until <= :begun THEN NULL
        ELSE invite_unsure_until END
FROM account a WHERE a.id = membership.account_id AND a.user_id IS NOT NULL
AND membership.room_id = :room_id

-- find_done --
-- Removals without an answer that are done.
UPDATE membership SET leaving = FALSE, problem = NULL, reason = NULL, attempts = 0
WHERE room_id = :room_id AND leaving AND observed = 'leave'
RETURNING (SELECT user_id FROM account a WHERE a.id = account_id) AS user_id, group_name, request,
    approved_by

-- find_one_done --
-- The same of one that is heard to be carried out late, whatever is wanted by then; where more was
-- heard since, it may be one that was answered. Of a removal under way the answer tells.
UPDATE membership SET leaving = FALSE, problem = NULL, reason = NULL, attempts = 0
WHERE room_id = :room_id AND observed IS DISTINCT FROM 'leave' AND (leaving OR :latest)
AND (observed IS NOT NULL OR next_try > :at OR brake = 'held'
    OR (leaving AND todo IS DISTINCT FROM 'leave'))
AND account_id = (SELECT id FROM account WHERE user_id = :user_id)
RETURNING CAST(:user_id AS TEXT) AS user_id, group_name, request, approved_by

-- end_decisions --
-- Nothing is left to decide, or to do by what was decided, where somebody is out already. What was let
-- through and has no answer yet is still to be recorded as that.
UPDATE membership SET brake = 'free', held_because = NULL, held_tick = NULL, approved_by = NULL
WHERE room_id = :room_id AND brake <> 'free' AND observed IN ('leave', 'ban') AND NOT leaving

-- clear_members --
-- Who is in a room without being managed is read anew.
DELETE FROM unmanaged_member WHERE room_id = :room_id

-- see_members --
-- Who is in a room without being managed. Whom a human let stay is there by that, and not by hand.
INSERT INTO unmanaged_member (room_id, user_id)
SELECT :room_id, value FROM each_text(:joined) WHERE value NOT IN (
    SELECT a.user_id FROM membership m JOIN account a ON a.id = m.account_id
    WHERE m.room_id = :room_id AND a.user_id IS NOT NULL
    AND m.state <> 'forgotten')
ON CONFLICT DO NOTHING

-- is_exclusive --
-- Whether a room is to hold nobody else: not before somebody is granted it, since an identity
-- provider that has not sent its groups yet must not empty it.
SELECT EXISTS (SELECT 1 FROM mapping m JOIN opening o ON o.mapping_id = m.id
    WHERE o.room_id = :room_id AND m.exclusive AND m.standing = 'in_force'
    AND o.standing = 'followed')
AND EXISTS (SELECT 1 FROM membership m WHERE m.room_id = :room_id AND m.state = 'granted')
    AS exclusive

-- unmanaged --
-- Who is in a room without being managed. An account that may be a user's as far as anybody can
-- tell, or is in conflict, is left alone.
SELECT s.user_id FROM unmanaged_member s WHERE s.room_id = :room_id
AND NOT EXISTS (SELECT 1 FROM account a WHERE a.proposed = s.user_id
    AND (a.problem = 'conflict' OR a.desired = 'active'))
AND NOT EXISTS (SELECT 1 FROM account a WHERE a.barred = s.user_id AND a.barred IS NOT NULL
    AND a.problem = 'conflict')

-- know_unmanaged --
-- Accounts that are no user's and are in an exclusive room.
INSERT INTO account (user_id, bound_by, desired, profile)
SELECT value, 'observed', 'unmanaged', '{}' FROM each_text(:users)
WHERE value NOT IN (SELECT user_id FROM account WHERE user_id IS NOT NULL) ORDER BY value
ON CONFLICT DO NOTHING

-- exclude --
-- Those are to leave an exclusive room whom nobody grants it and no human let stay. Whoever a group
-- put there once keeps its name.
INSERT INTO membership (room_id, account_id, state, observed, since)
SELECT :room_id, a.id, 'excluded', 'join', :at FROM account a
WHERE a.user_id IN (SELECT value FROM each_text(:users))
ON CONFLICT (room_id, account_id) DO UPDATE SET state = 'excluded', observed = 'join',
    left_by_choice = FALSE, attempts = 0, next_try = 0, problem = NULL,
    reason = NULL, tick = 0, since = excluded.since
WHERE membership.state = 'forgotten'

-- manage_excluded --
-- Who is to leave is managed.
DELETE FROM unmanaged_member WHERE room_id = :room_id AND user_id IN (
    SELECT a.user_id FROM membership m JOIN account a ON a.id = m.account_id
    WHERE m.room_id = :room_id AND m.state = 'excluded')

-- others --
-- Which memberships other than joined were last known in a room. It may be an invitation of which it
-- is not known whether somebody has it still who is to leave, or one that may come late.
SELECT DISTINCT observed FROM membership WHERE room_id = :room_id
AND observed IN ('invite', 'ban', 'knock')
UNION SELECT 'invite' WHERE EXISTS (SELECT 1 FROM membership m JOIN account a ON a.id = m.account_id
    WHERE m.room_id = :room_id AND m.observed IS NULL AND a.user_id IS NOT NULL
    AND (m.state IN ('revoked', 'pruned', 'excluded') OR m.leaving))
OR EXISTS (SELECT 1 FROM membership m
    WHERE m.room_id = :room_id AND m.invite_unsure_until IS NOT NULL)

-- observe_gone --
-- Who was thought invited or banned and is not: an invitation that is gone was declined, which is
-- respected where no group joins without asking; who is no longer banned may come back.
UPDATE membership SET next_try = 0,
    observed = CASE WHEN a.user_id IN (SELECT value FROM each_text(:invited)) THEN 'invite'
        ELSE 'leave' END,
    left_by_choice = state = 'granted' AND invite AND :observed = 'invite',
    tick = CASE WHEN state = 'granted' AND invite AND :observed = 'invite' THEN :tick
        ELSE membership.tick END
FROM account a WHERE a.id = membership.account_id AND membership.room_id = :room_id
AND observed = :observed AND a.user_id NOT IN (SELECT value FROM each_text(:still))

-- respect --
-- Who left by themselves stays out until the identity provider grants it anew.
UPDATE membership SET left_by_choice = TRUE, tick = :tick
FROM account a WHERE a.id = membership.account_id AND membership.room_id = :room_id
AND state = 'granted' AND observed = 'leave' AND NOT left_by_choice
AND a.user_id IN (SELECT value FROM each_text(:users))

-- declined --
-- Who is granted a room by invitation and was just seen to be neither in it nor invited any more.
SELECT a.user_id FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.room_id = :room_id AND m.state = 'granted' AND m.invite AND m.left_by_choice
AND m.observed = 'leave' AND m.tick = :tick

-- removed --
-- The service itself removed some: that was not by their own will.
UPDATE membership SET left_by_choice = FALSE
FROM account a WHERE a.id = membership.account_id AND membership.room_id = :room_id
AND state = 'granted' AND observed = 'leave' AND a.user_id IN (SELECT value FROM each_text(:users))

-- powerful --
-- Whom the service gave a power level in a room.
SELECT a.user_id, m.account_id, m.power_given FROM membership m JOIN account a
ON a.id = m.account_id
WHERE m.room_id = :room_id AND m.power_given IS NOT NULL AND m.state = 'granted'

-- lost_power --
-- A power level that the service gave is no longer there.
UPDATE membership SET power_given = NULL, next_try = 0
WHERE room_id = :room_id AND account_id = :account_id AND power_given > :level

-- observe_one --
-- One membership was seen to change. Whoever is out by another's hand, or their own, is so by no
-- removal that had no answer.
UPDATE membership SET next_try = 0, observed = :observed,
    leaving = leaving AND (:ours OR :observed NOT IN ('leave', 'ban')),
    left_by_choice = state = 'granted' AND :observed = 'leave'
        AND ((invite AND NOT :ours) OR :respected),
    tick = CASE WHEN state = 'granted' AND :observed = 'leave'
        AND ((invite AND NOT :ours) OR :respected) THEN :tick ELSE membership.tick END
FROM account a WHERE a.id = membership.account_id AND a.user_id = :user_id
AND membership.room_id = :room_id AND observed IS DISTINCT FROM :observed

-- one --
-- What is known of one membership.
SELECT m.state, m.todo IS NOT NULL OR m.power_todo AS due, m.observed
FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.room_id = :room_id AND a.user_id = :user_id

-- gone_member --
-- Somebody who is not managed left.
DELETE FROM unmanaged_member WHERE room_id = :room_id AND user_id = :user_id
