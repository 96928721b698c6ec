-- What SQLite's migration of this number brings, where each view is explained.
CREATE VIEW suspended_grant (room_id, account_id) AS
SELECT o.room_id, g.account_id FROM mapping_grant g CROSS JOIN mapping m CROSS JOIN opening o
WHERE g.state = 'granted' AND m.id = g.mapping_id AND m.standing = 'suspended'
AND o.mapping_id = m.id AND o.standing = 'followed';
CREATE VIEW unusable_room (room_id, unusable) AS
SELECT r.room_id, r.unusable FROM room r WHERE r.unusable IS NOT NULL AND (
    EXISTS (SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id
        WHERE o.room_id = r.room_id AND m.standing <> 'dropped')
    OR EXISTS (SELECT 1 FROM membership p
        WHERE p.room_id = r.room_id AND p.state = 'pruned' AND p.todo IS NOT NULL));
CREATE VIEW unfollowed_upgrade (room_id, reason, cure) AS
SELECT r.room_id, r.reason, r.cure FROM room r WHERE r.upgrade_to IS NOT NULL
AND EXISTS (SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id
    WHERE o.room_id = r.room_id AND m.standing <> 'dropped');

-- Whose turn it is, in the order that SQLite's indexes have by themselves: of an import all accounts
-- are of one moment.
DROP INDEX account_turn;
CREATE INDEX account_turn ON account (next_try, since DESC, id) WHERE todo IS NOT NULL;
DROP INDEX account_disabling;
CREATE INDEX account_disabling ON account (next_try, since DESC, id)
    WHERE todo IS NOT NULL AND todo = 'disable';

-- What is noted of changes of memberships, for each statement rather than for each row: a change of
-- the map is thousands of them in few rooms.
DROP TRIGGER membership_noted ON membership;
DROP FUNCTION membership_noted();

CREATE FUNCTION memberships_made() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM made) THEN RETURN NULL; END IF;
    INSERT INTO stirred (room_id, number)
    SELECT m.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred)
    FROM made m GROUP BY m.room_id
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
    INSERT INTO room_count (room_id, memberships, todo)
    SELECT m.room_id, count(*), count(m.todo) FROM made m GROUP BY m.room_id
    ON CONFLICT (room_id) DO UPDATE SET memberships = room_count.memberships + excluded.memberships,
        todo = room_count.todo + excluded.todo;
    RETURN NULL; END $$;
CREATE TRIGGER memberships_made AFTER INSERT ON membership
REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION memberships_made();

CREATE FUNCTION memberships_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM now) THEN RETURN NULL; END IF;
    INSERT INTO stirred (room_id, number)
    SELECT r.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred) FROM (
        SELECT room_id FROM (
            SELECT room_id, account_id, ready, todo IS NULL, power_todo, fit, next_try, state, brake
            FROM before
            EXCEPT
            SELECT room_id, account_id, ready, todo IS NULL, power_todo, fit, next_try, state, brake
            FROM now) changed
        GROUP BY room_id
    ) r
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
    UPDATE room_count SET todo = room_count.todo + d.difference FROM (
        SELECT c.room_id, sum(c.todo) AS difference FROM (
            SELECT room_id, -1 AS todo FROM before WHERE before.todo IS NOT NULL
            UNION ALL SELECT room_id, 1 FROM now WHERE now.todo IS NOT NULL
        ) c GROUP BY c.room_id
    ) d WHERE room_count.room_id = d.room_id AND d.difference <> 0;
    RETURN NULL; END $$;
CREATE TRIGGER memberships_changed AFTER UPDATE ON membership
REFERENCING OLD TABLE AS before NEW TABLE AS now
FOR EACH STATEMENT EXECUTE FUNCTION memberships_changed();

CREATE FUNCTION memberships_ended() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM ended) THEN RETURN NULL; END IF;
    INSERT INTO stirred (room_id, number)
    SELECT m.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred)
    FROM ended m GROUP BY m.room_id
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
    UPDATE room_count SET memberships = memberships - e.number, todo = room_count.todo - e.todo
    FROM (SELECT room_id, count(*) AS number, count(ended.todo) AS todo FROM ended GROUP BY room_id) e
    WHERE room_count.room_id = e.room_id;
    RETURN NULL; END $$;
CREATE TRIGGER memberships_ended AFTER DELETE ON membership
REFERENCING OLD TABLE AS ended FOR EACH STATEMENT EXECUTE FUNCTION memberships_ended();

CREATE OR REPLACE FUNCTION account_settled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM settled) THEN RETURN NULL; END IF;
    INSERT INTO stirred (room_id, number)
    SELECT m.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred)
    FROM settled s CROSS JOIN membership m WHERE m.account_id = s.account_id GROUP BY m.room_id
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
    RETURN NULL; END $$;
DROP TRIGGER account_settled ON unsettled;
CREATE TRIGGER account_settled AFTER DELETE ON unsettled
REFERENCING OLD TABLE AS settled FOR EACH STATEMENT EXECUTE FUNCTION account_settled();
