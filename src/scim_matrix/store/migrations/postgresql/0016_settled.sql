-- The rooms of those who are settled, from those: planned while memberships are few, which is where
-- a change of the map begins, the other way round read all memberships for each piece of it.
CREATE OR REPLACE FUNCTION account_settled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM settled) THEN RETURN NULL; END IF;
    PERFORM stir_all(ARRAY(SELECT m.room_id FROM settled s CROSS JOIN LATERAL (
        SELECT room_id FROM membership WHERE account_id = s.account_id OFFSET 0) m));
    RETURN NULL; END $$;
