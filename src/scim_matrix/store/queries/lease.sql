-- seen --
-- Who leads, in which term, and whether anybody else may, by the database's clock.
SELECT name, epoch, ends < seconds_now() AS is_free FROM lease

-- take --
-- A term begins: only where the last one has ended.
UPDATE lease SET holder = :holder, name = :name, epoch = epoch + 1,
    ends = seconds_now() + CAST(:seconds AS DOUBLE PRECISION)
WHERE ends < seconds_now() RETURNING epoch

-- renew --
-- A term lasts on: only while nobody has begun another. In a transaction it is the fence as well:
-- whoever would begin another term waits for its end.
UPDATE lease SET ends = seconds_now() + CAST(:seconds AS DOUBLE PRECISION)
WHERE holder = :holder AND epoch = :epoch RETURNING epoch

-- resign --
-- A term ends before its time.
UPDATE lease SET holder = NULL, name = NULL, ends = 0 WHERE holder = :holder AND epoch = :epoch

-- report --
-- A service says that it runs, and which map its configuration has.
INSERT INTO replica (holder, name, map, seen_at)
VALUES (:holder, :name, CAST(:map AS TEXT), seconds_now())
ON CONFLICT (holder) DO UPDATE SET map = excluded.map, seen_at = excluded.seen_at

-- forget --
-- Services that were not heard of for a while run no more.
DELETE FROM replica WHERE seen_at < seconds_now() - CAST(:seconds AS DOUBLE PRECISION)

-- leave --
-- A service ends.
DELETE FROM replica WHERE holder = :holder
