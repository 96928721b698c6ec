-- former --
-- The account that a user comes back to: of the same subject, or without one of the same SCIM id.
SELECT id, user_id FROM account WHERE scim_id IS NULL AND desired IN ('deleted', 'expired')
AND (subject = :subject OR (CAST(:subject AS TEXT) IS NULL AND mark = :scim_id))
ORDER BY id LIMIT 1

-- subject_taken --
-- Whether another user has this subject.
SELECT 1 FROM account WHERE subject = :subject AND scim_id IS NOT NULL AND scim_id <> :scim_id

-- name_taken --
-- Whether another user has the account of this name, or would be given it.
SELECT 1 FROM account WHERE scim_id IS NOT NULL AND scim_id <> :scim_id
AND (user_id = :proposed OR proposed = :proposed)

-- insert --
-- What the account of a new user should be.
INSERT INTO account (scim_id, proposed, mark, subject, desired, profile, tick, since, request)
VALUES (:scim_id, :proposed, :scim_id, :subject, :desired, :profile, :tick, :at, :request)
RETURNING id

-- come_back --
-- A former account is a user's again. Where it was not found before, it is as a new user's.
UPDATE account SET scim_id = :scim_id, subject = :subject, desired = :desired, profile = :profile,
    proposed = CASE WHEN user_id IS NULL AND asked IS NULL THEN :proposed ELSE proposed END,
    mark = CASE WHEN user_id IS NULL AND asked IS NULL THEN :scim_id ELSE mark END,
    expires = NULL, brake = 'free', held_because = NULL, held_tick = NULL, approved_by = NULL,
    problem = NULL, reason = NULL, cure = NULL, attempts = 0, next_try = 0,
    tick = :tick, since = :at, request = :request
WHERE id = :id RETURNING id

-- change --
-- What the account of a user should be from now on. An approval ends where the state is another,
-- and that there is none, where another subject may lead to one; so does what was let through, once
-- nothing of it can be carried out any more.
UPDATE account SET desired = :desired, profile = :profile, subject = :subject,
    doing = CASE WHEN desired = :desired OR unsure_until > :at THEN doing END,
    unsure_of = CASE WHEN desired = :desired OR unsure_until > :at THEN unsure_of END,
    proposed = CASE WHEN user_id IS NULL THEN :proposed END,
    confirmed = CASE WHEN user_id IS NOT NULL OR subject IS NOT DISTINCT FROM :subject
        THEN confirmed END,
    brake = CASE WHEN desired = :desired THEN brake ELSE 'free' END,
    held_because = CASE WHEN desired = :desired THEN held_because END,
    held_tick = CASE WHEN desired = :desired THEN held_tick END,
    approved_by = CASE WHEN desired = :desired THEN approved_by END,
    problem = CASE WHEN problem = 'conflict' AND proposed = :proposed THEN problem END,
    reason = CASE WHEN problem = 'conflict' AND proposed = :proposed THEN reason END,
    cure = CASE WHEN problem = 'conflict' AND proposed = :proposed THEN cure END,
    attempts = 0, next_try = 0, tick = :tick, since = :at, request = :request
WHERE scim_id = :scim_id AND (desired <> :desired OR profile <> :profile
    OR (user_id IS NULL AND proposed IS DISTINCT FROM :proposed))

-- leave_asked --
-- An account of a user's former name may still be made, by a request that had no answer.
INSERT INTO account (user_id, bound_by, mark, desired, profile, unsure_until)
SELECT proposed, 'observed', mark, 'unmanaged', '{}', unsure_until FROM account
WHERE scim_id = :scim_id AND user_id IS NULL AND proposed <> :proposed AND unsure_until > :at
ON CONFLICT (user_id) DO UPDATE SET unsure_until = excluded.unsure_until, mark = excluded.mark
WHERE account.unsure_until IS NULL OR account.unsure_until < excluded.unsure_until

-- release_bound --
-- The account of a deleted user: locked at once, and more once its grace period has passed.
UPDATE account SET scim_id = NULL, desired = 'deleted', expires = :expires, proposed = NULL,
    brake = 'free', held_because = NULL, held_tick = NULL, approved_by = NULL,
    problem = NULL, reason = NULL, cure = NULL, attempts = 0, next_try = 0,
    tick = :tick, since = :at, request = :request
WHERE scim_id = :scim_id AND user_id IS NOT NULL RETURNING id

-- release_unbound --
-- A deleted user who has no account leaves nothing behind.
DELETE FROM account WHERE scim_id = :scim_id AND user_id IS NULL AND confirmed IS NOT NULL
AND unsure_until IS NULL

-- release_unknown --
-- A deleted user who may have an account: where it is found, it is dealt with as theirs.
UPDATE account SET scim_id = NULL, desired = 'deleted', expires = :expires, attempts = 0,
    next_try = 0, problem = NULL, reason = NULL, cure = NULL, tick = :tick, since = :at,
    request = :request
WHERE scim_id = :scim_id AND user_id IS NULL RETURNING id

-- any_expired --
-- Whether the grace period of a deleted account has passed.
SELECT 1 FROM account a, installation i WHERE a.expires <= :now AND a.brake <> 'held'
AND (i.restored_tick IS NULL OR a.tick > i.restored_tick) LIMIT 1

-- expire --
-- Deleted accounts whose grace period has passed; what was approved for the lock ends with it.
UPDATE account SET desired = 'expired', expires = NULL, brake = 'free', held_because = NULL,
    held_tick = NULL, approved_by = NULL, attempts = 0, next_try = 0, problem = NULL,
    reason = NULL, cure = NULL, since = :at
WHERE expires <= :now AND brake <> 'held'
AND tick > (SELECT coalesce(restored_tick, -1) FROM installation)

-- record_time --
-- The time as the running service has it.
UPDATE installation SET seen_at = :now

-- put_off --
-- Grace periods pass while the service runs: what it was away, or its clock was set by meanwhile, is
-- added where that is too long to be told apart.
UPDATE account SET expires = expires + (SELECT :now - seen_at FROM installation)
WHERE expires IS NOT NULL AND (SELECT abs(:now - seen_at) > :longest FROM installation)
RETURNING 1

-- due --
-- Accounts to work on now, the newest change first; of those that rested, those whose rest ended
-- first.
SELECT * FROM account WHERE id IN (
    SELECT id FROM (SELECT id FROM account WHERE todo IS NOT NULL AND next_try = 0
        AND id NOT IN (SELECT value FROM each_number(:besides))
        ORDER BY since DESC, id LIMIT :limit) n
    UNION ALL
    SELECT id FROM (SELECT id FROM account WHERE todo IS NOT NULL
        AND next_try > 0 AND next_try <= :now
        AND id NOT IN (SELECT value FROM each_number(:besides))
        ORDER BY next_try, since DESC, id LIMIT :limit) r
) ORDER BY since DESC, id LIMIT :limit

-- due_disabling --
-- Those of them that are to be disabled and are surely their users'.
SELECT * FROM account WHERE id IN (
    SELECT id FROM (SELECT id FROM account WHERE todo IS NOT NULL AND todo = 'disable'
        AND next_try = 0 AND bound_by <> 'migrated'
        AND id NOT IN (SELECT value FROM each_number(:besides))
        ORDER BY since DESC, id LIMIT :limit) n
    UNION ALL
    SELECT id FROM (SELECT id FROM account WHERE todo IS NOT NULL AND todo = 'disable'
        AND next_try > 0 AND next_try <= :now AND bound_by <> 'migrated'
        AND id NOT IN (SELECT value FROM each_number(:besides))
        ORDER BY next_try, since DESC, id LIMIT :limit) r
) ORDER BY since DESC, id LIMIT :limit

-- get --
-- One account.
SELECT * FROM account WHERE id = :id

-- subjects_on --
-- Which SSO identities were written on an account, and whose it is.
SELECT desired, subject, written FROM account WHERE user_id = :user_id

-- somebodys --
-- The account of this user ID, where it is a user's, or was one's who was deleted.
SELECT * FROM account WHERE user_id = :user_id AND desired <> 'unmanaged'

-- begin_dropping --
-- A user's account is about to lose what is not theirs. In line with what they are then, it may be
-- so no more. One that a human took from its user has no identity of its own.
UPDATE account SET confirmed = CASE WHEN confirmed <> 'active' THEN confirmed END
WHERE id = :id AND user_id = :user_id AND (subject IS NOT DISTINCT FROM :subject
    OR (scim_id IS NULL AND subject IS NULL)) RETURNING 1

-- end_dropping --
-- What the service wrote on an account, without what it took off.
UPDATE account SET written = :written WHERE id = :id

-- ask --
-- An account is about to be asked for: until an answer is here, one made since may be it. Not for a
-- user who was disabled, deleted or told another account since that was decided.
UPDATE account SET asked = coalesce(:since, asked), searched = NULL, written = :written,
    unsure_until = :until
WHERE id = :id AND scim_id IS NOT NULL AND desired = 'active'
AND user_id IS NOT DISTINCT FROM :user_id RETURNING 1

-- search --
-- An account that was asked for is not found, since now or since before (which no clock that was set
-- back puts off).
UPDATE account SET searched = CASE WHEN searched < :at THEN searched ELSE :at END
WHERE id = :id RETURNING searched

-- has_none --
-- A user who is disabled has no account, and none that was asked for was made.
UPDATE account SET confirmed = desired, asked = NULL, attempts = 0, next_try = 0,
    unsure_until = CASE WHEN unsure_until > :at THEN unsure_until END,
    problem = CASE WHEN problem = 'conflict' THEN problem END,
    reason = CASE WHEN problem = 'conflict' THEN reason END,
    cure = CASE WHEN problem = 'conflict' THEN cure END
WHERE id = :id AND user_id IS NULL AND desired = :desired

-- forget_released --
-- Nor is there a user whose it could be.
DELETE FROM account WHERE id = :id AND scim_id IS NULL AND user_id IS NULL
AND unsure_until IS NULL

-- begin --
-- A request is about to leave: until its answer arrives, the account's state is not known. None leaves
-- where the brake holds it by now, the user is to be otherwise, or has another account.
UPDATE account SET confirmed = NULL, written = :written, doing = coalesce(:doing, doing),
    unsure_of = coalesce(:doing, CASE WHEN unsure_until > :at THEN unsure_of END),
    unsure_until = :until, usable = usable AND desired = 'active',
    locked_by_us = :locks, suspended_by_us = :suspends, deactivated_by_us = :deactivates
WHERE id = :id AND brake <> 'held' AND desired = :state AND user_id = :user_id RETURNING 1

-- confirm --
-- The account is as it should be, as far as this profile and state say. Not where another one is the
-- user's by now: nobody has looked at that.
UPDATE account SET confirmed = :state, confirmed_profile = :profile, written = :written,
    locked_by_us = :locked, suspended_by_us = :suspended, deactivated_by_us = :deactivated,
    by_hand = :by_hand, usable = :usable, notice = :notice, doing = NULL,
    unsure_until = :unsure_until, unsure_of = :unsure_of,
    brake = CASE WHEN brake = 'approved' THEN 'free' ELSE brake END, approved_by = NULL,
    problem = NULL, reason = NULL, cure = NULL, attempts = 0, next_try = 0
WHERE id = :id AND desired = :state AND user_id = :user_id RETURNING 1

-- not_done --
-- What was to disable an active user's account was not done, and is not any more.
UPDATE account SET doing = NULL, locked_by_us = :locked, suspended_by_us = :suspended,
    deactivated_by_us = :deactivated
WHERE id = :id AND user_id = :user_id

-- bring_back --
-- An account that the service deactivated, which takes it out of its rooms, is active again: it has
-- not left them by itself.
UPDATE membership SET observed = NULL, left_by_choice = FALSE
WHERE account_id = :id AND state = 'granted' AND observed IS DISTINCT FROM 'ban'

-- fail --
-- Why work on an account does not go on, and when to try again: where it is the work that was begun,
-- and no human has said meanwhile whose account is whose.
UPDATE account SET attempts = attempts + 1, problem = :problem, reason = :reason, cure = :cure,
    next_try = :next_try, confirmed = CASE WHEN :problem = 'spared' THEN NULL ELSE confirmed END,
    asked = CASE WHEN :problem = 'unavailable' THEN asked END
WHERE id = :id AND desired = :state AND (user_id IS NOT DISTINCT FROM :user_id
    OR (:unsettled AND bound_by IS DISTINCT FROM 'human')) RETURNING 1

-- is_taken --
-- Whether an account is some user's.
SELECT 1 FROM account WHERE user_id = :user_id AND scim_id IS NOT NULL

-- holder --
-- Whose account has a user ID.
SELECT id, scim_id, mark, written FROM account WHERE user_id = :user_id AND id <> :id

-- take_disablement --
-- What the service did to an account in a former user's name it may undo in the new one's; written
-- is what it wrote there for both.
UPDATE account SET locked_by_us = f.locked_by_us, suspended_by_us = f.suspended_by_us,
    deactivated_by_us = f.deactivated_by_us, written = :written
FROM account f WHERE account.id = :id AND f.id = :former

-- take_power --
-- What the service gave an account in a room it takes back, whosever it is now.
UPDATE membership SET power_given = f.power_given, power_before = f.power_before,
    power_tried = f.power_tried
FROM membership f WHERE membership.account_id = :id AND f.account_id = :former
AND f.room_id = membership.room_id

-- take_memberships --
-- What else is known of a former account in rooms counts for the user who has it now; but whoever
-- was nobody's in a room that is to hold nobody else is somebody's now.
UPDATE membership SET account_id = :id, left_by_choice = FALSE, next_try = 0
WHERE account_id = :former AND state <> 'excluded'
AND room_id NOT IN (SELECT room_id FROM membership WHERE account_id = :id)

-- delete --
-- An account that is nobody's any more.
DELETE FROM account WHERE id = :id

-- part --
-- A user's account is another one.
UPDATE account SET user_id = NULL, bound_by = NULL WHERE id = :id

-- know_former --
-- The one before is no user's, and goes to nobody by itself. What the service made for the user is
-- locked; whatever was there before only leaves the rooms it was given.
INSERT INTO account (user_id, bound_by, desired, profile, locked_by_us, suspended_by_us,
    deactivated_by_us, written, unsure_until, unsure_of, tick, since, request)
SELECT :former, CASE WHEN :made THEN :bound_by ELSE 'observed' END,
    CASE WHEN :made THEN 'deleted' ELSE 'unmanaged' END, profile, locked_by_us, suspended_by_us,
    deactivated_by_us, written, unsure_until, unsure_of, :tick, :at, :request
FROM account WHERE id = :id RETURNING id

-- keep_in_former --
-- What the user is granted is granted to another account now.
INSERT INTO membership (room_id, account_id, state, group_name, observed, leaving,
    invite_unsure_until, power_given, power_before, power_tried, tick, since, request)
SELECT room_id, :former_id, 'revoked', group_name, observed, leaving, invite_unsure_until,
    power_given, power_before, power_tried, :tick, :at, :request
FROM membership WHERE account_id = :id AND state = 'granted'

-- leave_to_former --
-- What else is known in rooms is known of the account before.
UPDATE membership SET account_id = :former_id WHERE account_id = :id AND state <> 'granted'

-- disown --
-- What the service did, it did to the account before.
UPDATE account SET locked_by_us = FALSE, suspended_by_us = FALSE, deactivated_by_us = FALSE,
    by_hand = NULL, doing = NULL, unsure_until = NULL, unsure_of = NULL,
    brake = 'free', held_because = NULL, held_tick = NULL, approved_by = NULL
WHERE id = :id

-- bind --
-- It is known which account is a user's; where it is in rooms is not known yet. What a human let
-- be is let be.
UPDATE account SET user_id = :user_id, bound_by = :bound_by, proposed = NULL,
    problem = CASE WHEN problem = 'dismissed' AND user_id = :user_id THEN problem END,
    reason = CASE WHEN problem = 'dismissed' AND user_id = :user_id THEN reason END,
    barred = CASE WHEN :bound_by <> 'human' THEN barred
        WHEN CAST(:former AS TEXT) IS NOT NULL THEN :former
        WHEN barred <> :user_id THEN barred END,
    cure = NULL, usable = usable AND user_id IS NOT DISTINCT FROM :user_id,
    confirmed = CASE WHEN user_id = :user_id AND bound_by = :bound_by THEN confirmed END,
    confirmed_profile = CASE WHEN user_id = :user_id THEN confirmed_profile END,
    asked = NULL, next_try = 0
WHERE id = :id

-- forget_observed --
-- Where an account is in rooms is not known. Nothing was asked for it yet.
UPDATE membership SET observed = NULL, left_by_choice = FALSE, power_given = NULL,
    power_tried = NULL, next_try = 0, leaving = FALSE, invite_unsure_until = NULL
WHERE account_id = :id

-- let_be --
-- Who was to leave a room that is to hold nobody else, and may be a user's or is in conflict now.
DELETE FROM membership WHERE state = 'excluded' AND account_id IN (
    SELECT u.id FROM account a JOIN account u ON u.user_id IN (a.proposed, a.barred)
    WHERE a.scim_id = :scim_id AND u.desired = 'unmanaged')

-- manage --
-- An account that is managed is no unmanaged member.
DELETE FROM unmanaged_member WHERE user_id = :user_id
AND room_id IN (SELECT room_id FROM membership WHERE account_id = :id AND state = 'granted')

-- unbind --
-- An account is no longer a user's; nothing is done to it.
UPDATE account SET user_id = NULL, bound_by = NULL, proposed = :proposed, barred = :barred,
    usable = FALSE, confirmed = NULL, locked_by_us = FALSE, suspended_by_us = FALSE,
    deactivated_by_us = FALSE, by_hand = NULL, asked = NULL, doing = NULL, unsure_of = NULL,
    problem = 'conflict', reason = :reason, cure = :cure, next_try = :next_try
WHERE id = :id

-- never_made --
-- There is no such account: one is made when it is needed.
UPDATE account SET user_id = NULL, bound_by = NULL, proposed = user_id, usable = FALSE,
    confirmed = NULL, locked_by_us = FALSE, suspended_by_us = FALSE,
    deactivated_by_us = FALSE, by_hand = NULL, doing = NULL,
    unsure_until = NULL, unsure_of = NULL, written = '{"emails":[],"subjects":[]}',
    problem = NULL, reason = NULL, cure = NULL, next_try = 0
WHERE id = :id

-- named --
-- A user's account by SCIM id, user name or user ID.
SELECT * FROM account WHERE id IN (
    SELECT id FROM account WHERE scim_id = :name
    UNION SELECT id FROM account WHERE user_id = :name AND scim_id IS NOT NULL
    UNION SELECT a.id FROM scim_user u CROSS JOIN account a
        WHERE u.user_name_key = :folded AND a.scim_id = u.id)

-- ours --
-- Those of some accounts that are ours and thought to be in line.
SELECT id, user_id, desired, confirmed, profile, locked_by_us, suspended_by_us, deactivated_by_us,
    by_hand, written, notice FROM account
WHERE user_id IN (SELECT value FROM each_text(:user_ids)) AND confirmed IS NOT NULL
AND desired <> 'unmanaged'

-- doubt --
-- An account is not what it was thought to be. One that was deactivated is joined into no room.
UPDATE account SET confirmed = NULL, usable = usable AND NOT :deactivated, next_try = 0
WHERE id = :id AND confirmed IS NOT NULL

-- doubt_gone --
-- Who left a room by themselves may have been deactivated by hand, which takes them out of all of
-- them: that is looked at before they are joined again.
UPDATE account SET confirmed = NULL, usable = FALSE, next_try = 0
WHERE user_id IN (SELECT value FROM each_text(:user_ids)) AND confirmed = 'active'
AND desired = 'active'

-- retry_stopped --
-- What only a change elsewhere can mend may have been mended.
UPDATE account SET next_try = 0 WHERE problem IN ('conflict', 'refused', 'spared')

-- use --
-- An account can be joined to rooms.
UPDATE account SET usable = TRUE WHERE id = :id AND user_id IS NOT NULL

-- spared --
-- Whom protection keeps from being disabled.
SELECT id, user_id FROM account WHERE todo IS NOT NULL AND todo = 'disable'
AND problem = 'spared' AND user_id IS NOT NULL

-- end_sparing --
-- An account is protected no more, and counts for the brake as others do.
UPDATE account SET problem = NULL, reason = NULL, attempts = 0, next_try = 0
WHERE id = :id AND problem = 'spared'

-- retry_withheld --
-- What a dry run withheld is tried at once.
UPDATE account SET next_try = 0, problem = NULL, reason = NULL WHERE problem = 'withheld'

-- move_home --
-- Accounts that are still to be made are made on the server that is there.
UPDATE account SET proposed = substr(proposed, 1, place_in(proposed, ':')) || :server_name,
    problem = NULL, reason = NULL, cure = NULL, next_try = 0
WHERE user_id IS NULL AND substr(proposed, place_in(proposed, ':') + 1) <> :server_name
