-- put --
-- Lines of the map, new or with other options. One that was dropped is put back, with what is known
-- of it.
INSERT INTO mapping (origin, kind, pattern, reference, power, children, invite, exclusive, made_by,
    made_at, alias, unsettled)
SELECT value ->> 'origin', value ->> 'kind', value ->> 'pattern', value ->> 'reference',
    CAST(value ->> 'power' AS BIGINT), CAST(value ->> 'children' AS BOOLEAN),
    CAST(value ->> 'invite' AS BOOLEAN), CAST(value ->> 'exclusive' AS BOOLEAN),
    value ->> 'made_by', CAST(value ->> 'made_at' AS DOUBLE PRECISION), value ->> 'alias', TRUE
FROM each_entry(:lines) WHERE true
ON CONFLICT (origin, kind, pattern, reference) DO UPDATE SET power = excluded.power,
    children = excluded.children, invite = excluded.invite, exclusive = excluded.exclusive,
    made_by = excluded.made_by, made_at = excluded.made_at, alias = excluded.alias,
    standing = 'in_force', reason = NULL, cure = NULL, unsettled = TRUE
RETURNING id

-- close_children --
-- Mappings open no rooms below their spaces, until these are read again.
DELETE FROM opening WHERE via IS NOT NULL
AND mapping_id IN (SELECT value FROM each_number(:ids))

-- open --
-- Lines open the rooms that they name, as far as these are known.
INSERT INTO opening (mapping_id, room_id, standing, led_by)
SELECT m.id, r.room_id, 'followed', r.led_by
FROM each_number(:ids) n CROSS JOIN mapping m CROSS JOIN room_reference r
WHERE m.id = n.value AND r.reference = m.reference AND r.room_id IS NOT NULL
ON CONFLICT (mapping_id, room_id) DO UPDATE SET led_by = excluded.led_by

-- made --
-- Those of lines that somebody made, and on whose own power what they open rests beside theirs.
SELECT m.id, m.made_by, o.led_by
FROM each_number(:ids) n CROSS JOIN mapping m CROSS JOIN opening o
WHERE m.id = n.value AND m.made_by IS NOT NULL AND o.mapping_id = m.id AND o.via IS NULL

-- drop --
-- Lines that the map does not say any more.
UPDATE mapping SET standing = 'dropped', reason = NULL, cure = NULL, unsettled = TRUE
WHERE id IN (SELECT value FROM each_number(:ids))

-- refer --
-- What lines name, with the room it stands for where that is known.
INSERT INTO room_reference (reference, standing, room_id)
SELECT value ->> 'reference',
    CASE WHEN value ->> 'room_id' IS NULL THEN 'unresolved' ELSE 'pinned' END, value ->> 'room_id'
FROM each_entry(:known) WHERE true ON CONFLICT DO NOTHING
