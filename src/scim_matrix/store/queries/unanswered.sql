-- restore --
-- What may still be carried out on an account is what was asked before, if anything.
UPDATE account SET unsure_until = :until WHERE id = :id AND user_id IS NOT DISTINCT FROM :user_id

-- record_of --
-- A request on an account had no answer, or has none yet, and may be carried out until then.
INSERT INTO account (user_id, bound_by, desired, profile, unsure_until)
VALUES (:user_id, 'observed', 'unmanaged', '{}', :until)
ON CONFLICT (user_id) DO UPDATE SET unsure_until = excluded.unsure_until
WHERE account.unsure_until IS NULL OR account.unsure_until < excluded.unsure_until

-- until --
-- Until when something may be carried out on an account.
SELECT unsure_until FROM account WHERE user_id = :user_id

-- end --
-- A request on an account was answered.
UPDATE account SET unsure_until = :former WHERE user_id = :user_id AND unsure_until = :until

-- begin_anew --
-- Nobody knows how long ago that was, since nothing ran, but where it was over before.
-- A clock that was ahead makes nobody wait for longer.
UPDATE account SET unsure_until = :until WHERE unsure_until = 0 OR unsure_until > :until
OR unsure_until > (SELECT coalesce(seen_at, 0) FROM installation)

-- begin_levels_anew --
-- The same of power levels.
UPDATE room SET levels_unsure_until = :until WHERE levels_unsure_until > :until
OR levels_unsure_until > (SELECT coalesce(seen_at, 0) FROM installation)

-- of_nobodys --
-- Whether something may still be carried out on an account that is no user's, or it may be made, but
-- for what was asked for the same user.
SELECT 1 FROM account WHERE scim_id IS NULL AND unsure_until > :since
AND id <> :id AND mark IS DISTINCT FROM :mark
AND (user_id = :user_id OR (user_id IS NULL AND proposed = :user_id))

-- any_over --
-- Whether an account is to be looked at once more, or nothing is in doubt of it any more.
SELECT 1 FROM account WHERE unsure_until <= :now
AND (confirmed IS NOT NULL OR user_id IS NULL OR desired = 'unmanaged') LIMIT 1

-- look_behind --
-- Users whose account was another one before, of which that is known now: what was written there
-- late is taken off.
UPDATE account SET confirmed = NULL WHERE barred IS NOT NULL
AND barred IN (SELECT o.user_id FROM account o
    WHERE o.unsure_until <= :now AND o.desired = 'unmanaged')

-- look --
-- Accounts of which it is known now what is carried out late, once they are looked at. Whoever has
-- none by now may have left a link on the one before.
UPDATE account SET confirmed = NULL, next_try = 0,
    unsure_until = CASE WHEN user_id IS NOT NULL AND desired <> 'unmanaged' THEN unsure_until END
WHERE unsure_until <= :now
AND (confirmed IS NOT NULL OR user_id IS NULL OR desired = 'unmanaged')
