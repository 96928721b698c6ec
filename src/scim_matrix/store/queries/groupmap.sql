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

-- to_open --
-- The rooms that mappings name, as far as they are known, and on whose own power that rests.
SELECT m.id, r.room_id, r.led_by, m.made_by
FROM each_number(:ids) n CROSS JOIN mapping m CROSS JOIN room_reference r
WHERE m.id = n.value AND r.reference = m.reference AND r.room_id IS NOT NULL
