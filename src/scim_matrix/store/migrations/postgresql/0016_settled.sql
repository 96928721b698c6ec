-- Where things changed is noted by one function, whichever trigger says so.
CREATE OR REPLACE FUNCTION stir_all(places TEXT[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO stirred (room_id, number)
    SELECT DISTINCT place, (SELECT coalesce(max(number), 0) + 1 FROM stirred)
    FROM unnest(places) place
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number; END $$;

CREATE OR REPLACE FUNCTION memberships_made() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM made) THEN RETURN NULL; END IF;
    PERFORM stir_all(ARRAY(SELECT room_id FROM made));
    INSERT INTO room_count (room_id, memberships, todo)
    SELECT m.room_id, count(*), count(m.todo) FROM made m GROUP BY m.room_id
    ON CONFLICT (room_id) DO UPDATE SET memberships = room_count.memberships + excluded.memberships,
        todo = room_count.todo + excluded.todo;
    RETURN NULL; END $$;

CREATE OR REPLACE FUNCTION memberships_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM now) THEN RETURN NULL; END IF;
    PERFORM stir_all(ARRAY(SELECT room_id FROM (
        SELECT room_id, account_id, ready, todo IS NULL, power_todo, fit, next_try, state, brake
        FROM before
        EXCEPT
        SELECT room_id, account_id, ready, todo IS NULL, power_todo, fit, next_try, state, brake
        FROM now) changed));
    UPDATE room_count SET todo = room_count.todo + d.difference FROM (
        SELECT c.room_id, sum(c.todo) AS difference FROM (
            SELECT room_id, -1 AS todo FROM before WHERE before.todo IS NOT NULL
            UNION ALL SELECT room_id, 1 FROM now WHERE now.todo IS NOT NULL
        ) c GROUP BY c.room_id
    ) d WHERE room_count.room_id = d.room_id AND d.difference <> 0;
    RETURN NULL; END $$;

CREATE OR REPLACE FUNCTION memberships_ended() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM ended) THEN RETURN NULL; END IF;
    PERFORM stir_all(ARRAY(SELECT room_id FROM ended));
    UPDATE room_count SET memberships = memberships - e.number, todo = room_count.todo - e.todo
    FROM (SELECT room_id, count(*) AS number, count(ended.todo) AS todo FROM ended GROUP BY room_id) e
    WHERE room_count.room_id = e.room_id;
    RETURN NULL; END $$;

-- The rooms of those who are settled, from those: planned while memberships are few, which is where
-- a change of the map begins, the other way round read all memberships for each piece of it.
CREATE OR REPLACE FUNCTION account_settled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM settled) THEN RETURN NULL; END IF;
    PERFORM stir_all(ARRAY(SELECT m.room_id FROM settled s CROSS JOIN LATERAL (
        SELECT room_id FROM membership WHERE account_id = s.account_id OFFSET 0) m));
    RETURN NULL; END $$;
