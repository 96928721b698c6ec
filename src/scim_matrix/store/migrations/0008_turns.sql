-- Whose turn is next: accounts that do not rest, the newest change first, and those that do, by when
-- that ends.
DROP INDEX account_todo;
DROP INDEX account_turn;
CREATE INDEX account_turn ON account (next_try, since DESC) WHERE todo IS NOT NULL;
CREATE INDEX account_disabling ON account (next_try, since DESC)
    WHERE todo IS NOT NULL AND todo = 'disable';
CREATE INDEX room_reference_room ON room_reference (room_id) WHERE room_id IS NOT NULL;
