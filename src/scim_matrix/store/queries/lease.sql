-- seen --
-- Who leads, in which term, and how often that was renewed. Where neither changes nobody does.
SELECT holder, name, epoch, renewed FROM lease

-- put_back --
-- The lease is there again, above every term that is known of and held by nobody who could renew it.
INSERT INTO lease (id, holder, epoch, renewed)
SELECT 1, '', MAX(epoch), 0
FROM (SELECT CAST(:epoch AS BIGINT) AS epoch UNION ALL SELECT epoch FROM replica) AS known WHERE TRUE
ON CONFLICT (id) DO NOTHING

-- take --
-- A term begins: only where the last one was not renewed since it was seen.
UPDATE lease SET holder = :holder, name = :name, epoch = :number, renewed = renewed + 1
WHERE epoch = :epoch AND renewed = :renewed RETURNING epoch

-- renew --
-- A term lasts on: only while nobody has begun another. In a transaction it is the fence as well:
-- whoever would begin another term waits for its end, and finds it renewed.
UPDATE lease SET renewed = renewed + 1 WHERE holder = :holder AND epoch = :epoch RETURNING epoch

-- resign --
-- A term ends before its time.
UPDATE lease SET holder = NULL, name = NULL, renewed = renewed + 1
WHERE holder = :holder AND epoch = :epoch

-- report --
-- A service says that it runs, which map and settings it has, which term it knows of, and whether it
-- could act.
INSERT INTO replica (holder, name, map, settings, seen_at, epoch, able)
VALUES (:holder, :name, CAST(:map AS TEXT), CAST(:settings AS TEXT), seconds_now(), :epoch, :able)
ON CONFLICT (holder) DO UPDATE SET map = excluded.map, settings = excluded.settings, seen_at = excluded.seen_at,
    epoch = excluded.epoch, able = excluded.able

-- forget --
-- Services that were not heard of for a while run no more. Where the clock has jumped those that do
-- are there again with their next report.
DELETE FROM replica WHERE ABS(seen_at - seconds_now()) > CAST(:seconds AS DOUBLE PRECISION)

-- able --
-- Another service that could act, and has not failed to renew the lease.
SELECT 1 FROM replica r WHERE r.holder <> :holder AND r.able
    AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.holder = r.holder)
LIMIT 1

-- leader --
-- As what whoever leads is told, where that one was heard of lately.
SELECT l.name FROM lease l JOIN replica r ON r.holder = l.holder
WHERE ABS(r.seen_at - seconds_now()) <= CAST(:seconds AS DOUBLE PRECISION)

-- leave --
-- A service ends.
DELETE FROM replica WHERE holder = :holder
