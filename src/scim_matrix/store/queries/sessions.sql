-- find --
-- A session of the console.
SELECT user_id, begun, used FROM console_session WHERE id = :id

-- begin --
-- Somebody signs in to the console.
INSERT INTO console_session (id, user_id, begun, used) VALUES (:id, :user_id, :now, :now)

-- use --
-- A session is used.
UPDATE console_session SET used = :now WHERE id = :id

-- end --
-- A session ends.
DELETE FROM console_session WHERE id = :id

-- end_all --
-- Every session of a user ends.
DELETE FROM console_session WHERE user_id = :user_id

-- end_over --
-- Sessions that are over are kept no longer.
DELETE FROM console_session WHERE used < :idle_since OR begun < :begun_before

-- end_least_used_of --
-- Of a user's sessions those end that were used least lately, beyond so many.
DELETE FROM console_session WHERE id IN (SELECT id FROM console_session
    WHERE user_id = :user_id ORDER BY used DESC, id LIMIT 1000 OFFSET :most)

-- end_least_used --
-- Of all sessions those end that were used least lately, beyond so many.
DELETE FROM console_session WHERE id IN (SELECT id FROM console_session
    ORDER BY used DESC, id LIMIT 1000 OFFSET :most)

-- key --
-- What seals cookies.
SELECT value FROM console_key WHERE name = 'cookies'

-- keep_key --
-- What seals cookies from now on, unless another service was first.
INSERT INTO console_key (name, value) VALUES ('cookies', :value) ON CONFLICT DO NOTHING
