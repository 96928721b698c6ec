-- What a mapping says beyond "opens": power level, a space's rooms, invitation, nobody else.
ALTER TABLE mapping ADD COLUMN power INTEGER;
ALTER TABLE mapping ADD COLUMN children INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mapping ADD COLUMN invite INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mapping ADD COLUMN exclusive INTEGER NOT NULL DEFAULT 0;

-- template: how to make the room where its alias does not exist (JSON).
ALTER TABLE room ADD COLUMN template TEXT;

-- The rooms found in a space that the map opens with its rooms.
CREATE TABLE room_child (
    reference TEXT NOT NULL REFERENCES room (reference) ON DELETE CASCADE,
    room_id TEXT NOT NULL,
    PRIMARY KEY (reference, room_id)
) WITHOUT ROWID;
CREATE INDEX room_child_room ON room_child (room_id);

-- Who was seen in a mapped room without a managed pair.
CREATE TABLE stranger (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (room_id, user_id)
) WITHOUT ROWID;

-- invite: granted by invitation only. power: the level that is granted; power_set: the level
-- that the service gave. since: when granted last changed (Julian day), the newest goes first.
-- membership is a Matrix membership, or left: gone by their own will, which is respected.
ALTER TABLE pair ADD COLUMN invite INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pair ADD COLUMN power INTEGER;
ALTER TABLE pair ADD COLUMN power_set INTEGER;
ALTER TABLE pair ADD COLUMN since REAL NOT NULL DEFAULT 0;
DROP INDEX pair_work;
CREATE INDEX pair_work ON pair (room_id, next_try)
    WHERE NOT held AND NOT forgotten
    AND membership IS NOT 'ban' AND membership IS NOT 'left'
    AND ((granted = 1 AND membership IS NOT 'join' AND NOT (invite AND membership IS 'invite'))
        OR (granted = 0 AND membership IS NOT 'leave'));
CREATE INDEX pair_power ON pair (room_id, next_try) WHERE power IS NOT power_set;

ALTER TABLE account DROP COLUMN is_protected;
ALTER TABLE account ADD COLUMN since REAL NOT NULL DEFAULT 0;
