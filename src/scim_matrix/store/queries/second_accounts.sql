-- users_own --
-- Which of some Matrix accounts are users', or were: not those that are no user's and only leave rooms.
SELECT user_id FROM account
WHERE user_id IN (SELECT value FROM each_text(:user_ids)) AND desired <> 'unmanaged'

-- first_accounts --
-- Users' accounts whose name others begin with, of those others that are no user's.
SELECT p.value ->> 'second' AS second, a.id, a.user_id, a.profile, a.subject
FROM each_entry(:pairs) p CROSS JOIN account a
WHERE a.user_id = p.value ->> 'first' AND a.scim_id IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM account o
    WHERE o.user_id = p.value ->> 'second' AND o.scim_id IS NOT NULL)

-- known_subjects --
-- Which of some SSO subjects are users'.
SELECT subject FROM account
WHERE subject IN (SELECT value FROM each_text(:subjects)) AND scim_id IS NOT NULL

-- found --
-- The second accounts that the last comparison found.
SELECT user_id, account_id, subject FROM second_account ORDER BY user_id

-- forget --
-- A comparison knows better which second accounts there are.
DELETE FROM second_account

-- add --
-- A second account was found.
INSERT INTO second_account (user_id, account_id, subject)
VALUES (:user_id, :account_id, :subject) ON CONFLICT DO NOTHING
