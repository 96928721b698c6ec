-- Once for a statement: each note of one place is another version of the same row.
DROP TRIGGER opening_noted ON opening;
DROP FUNCTION opening_noted();

CREATE FUNCTION openings_noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM noted) THEN RETURN NULL; END IF;
    PERFORM stir_all(ARRAY(SELECT room_id FROM noted UNION SELECT ''));
    RETURN NULL; END $$;
CREATE TRIGGER openings_made AFTER INSERT ON opening
REFERENCING NEW TABLE AS noted FOR EACH STATEMENT EXECUTE FUNCTION openings_noted();
CREATE TRIGGER openings_ended AFTER DELETE ON opening
REFERENCING OLD TABLE AS noted FOR EACH STATEMENT EXECUTE FUNCTION openings_noted();

CREATE FUNCTION openings_changed() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE
    changed TEXT[] := ARRAY(SELECT room_id FROM (SELECT mapping_id, room_id, standing FROM before
        EXCEPT SELECT mapping_id, room_id, standing FROM now) o);
BEGIN
    IF changed <> '{}' THEN PERFORM stir_all(changed || ARRAY['']); END IF;
    RETURN NULL; END $$;
CREATE TRIGGER openings_changed AFTER UPDATE ON opening
REFERENCING OLD TABLE AS before NEW TABLE AS now
FOR EACH STATEMENT EXECUTE FUNCTION openings_changed();

DROP TRIGGER mapping_stands ON mapping;
DROP FUNCTION mapping_stands();

CREATE FUNCTION mappings_stand() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE
    changed BIGINT[] := ARRAY(SELECT id FROM (SELECT id, standing FROM before
        EXCEPT SELECT id, standing FROM now) m);
BEGIN
    IF changed <> '{}' THEN
        PERFORM stir_all(ARRAY(SELECT room_id FROM opening WHERE mapping_id = ANY (changed)
            UNION SELECT ''));
    END IF;
    RETURN NULL; END $$;
CREATE TRIGGER mappings_stand AFTER UPDATE ON mapping
REFERENCING OLD TABLE AS before NEW TABLE AS now
FOR EACH STATEMENT EXECUTE FUNCTION mappings_stand();

-- What 0015 made, where a database had it before it made more than views.
DROP TRIGGER IF EXISTS membership_noted ON membership;
DROP FUNCTION IF EXISTS membership_noted();
CREATE OR REPLACE TRIGGER memberships_made AFTER INSERT ON membership
REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION memberships_made();
CREATE OR REPLACE TRIGGER memberships_changed AFTER UPDATE ON membership
REFERENCING OLD TABLE AS before NEW TABLE AS now
FOR EACH STATEMENT EXECUTE FUNCTION memberships_changed();
CREATE OR REPLACE TRIGGER memberships_ended AFTER DELETE ON membership
REFERENCING OLD TABLE AS ended FOR EACH STATEMENT EXECUTE FUNCTION memberships_ended();
DROP TRIGGER account_settled ON unsettled;
CREATE TRIGGER account_settled AFTER DELETE ON unsettled
REFERENCING OLD TABLE AS settled FOR EACH STATEMENT EXECUTE FUNCTION account_settled();
DROP INDEX account_turn;
CREATE INDEX account_turn ON account (next_try, since DESC, id) WHERE todo IS NOT NULL;
DROP INDEX account_disabling;
CREATE INDEX account_disabling ON account (next_try, since DESC, id)
    WHERE todo IS NOT NULL AND todo = 'disable';
