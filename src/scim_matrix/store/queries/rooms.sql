-- mapped --
-- Every room that the map opens now, or will once a suspended mapping is in force again.
SELECT DISTINCT o.room_id FROM opening o JOIN mapping m ON m.id = o.mapping_id
WHERE o.standing = 'followed' AND m.standing IN ('in_force', 'suspended')

-- mapped_of --
-- Those of some rooms that are such.
SELECT value AS room_id FROM each_text(:rooms) WHERE EXISTS (
    SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id WHERE o.room_id = value
    AND o.standing = 'followed' AND m.standing IN ('in_force', 'suspended'))

-- suspicious --
-- Rooms of which something is known to be wrong.
SELECT room_id FROM room WHERE unusable IS NOT NULL OR upgrade_to IS NOT NULL
UNION SELECT room_id FROM membership WHERE problem IS NOT NULL
UNION SELECT room_id FROM room_reference WHERE candidate IS NOT NULL AND room_id IS NOT NULL

-- unresolved --
-- The references that are to be resolved now, or may no longer have to wait for a human. Of what
-- only dropped mappings name it is asked until it is known what that is.
SELECT r.* FROM room_reference r WHERE r.standing <> 'pinned' AND r.next_try <= :now
AND EXISTS (SELECT 1 FROM mapping m WHERE m.reference = r.reference
    AND (m.standing <> 'dropped' OR (r.standing = 'unresolved' AND NOT r.absent)))
AND r.reference NOT IN (SELECT value FROM each_text(:besides))
ORDER BY r.next_try LIMIT :limit

-- of_room --
-- The references of the map that stand for a room.
SELECT r.* FROM room_reference r WHERE r.room_id = :room_id AND EXISTS (
    SELECT 1 FROM mapping m WHERE m.reference = r.reference AND m.standing <> 'dropped')

-- reference --
-- One reference.
SELECT * FROM room_reference WHERE reference = :reference

-- mappings_of --
-- The mappings that name a reference, or did.
SELECT * FROM mapping WHERE reference = :reference AND standing <> 'overruled'

-- spaces_mapped --
-- The mappings that open the rooms of a space, by the space's present room.
SELECT m.*, r.room_id, r.led_by FROM mapping m JOIN room_reference r
    ON r.reference = m.reference
WHERE m.children AND m.standing IN ('in_force', 'suspended') AND r.room_id = :room_id

-- console_mappings --
-- The mappings made in the console, with the room that each is about now.
SELECT m.*, r.room_id FROM mapping m JOIN room_reference r ON r.reference = m.reference
WHERE m.origin = 'console' AND m.standing IN ('in_force', 'suspended')
AND (CAST(:room_id AS TEXT) IS NULL OR r.room_id = :room_id
    OR EXISTS (SELECT 1 FROM opening o WHERE o.mapping_id = m.id AND o.room_id = :room_id))

-- pin --
-- A reference stands for a room from now on, on the power of some.
UPDATE room_reference SET standing = 'pinned', room_id = :room_id, led_by = :led_by,
    candidate = NULL, reason = NULL, cure = NULL, attempts = 0, next_try = 0
WHERE reference = :reference

-- wait --
-- A reference leads to a room that a human must let in.
UPDATE room_reference SET standing = 'waiting', candidate = :candidate, reason = :reason,
    cure = :cure, attempts = attempts + 1, next_try = :next_try
WHERE reference = :reference AND standing <> 'pinned'

-- point_elsewhere --
-- The alias of a pinned room leads to another room, which is not followed.
UPDATE room_reference SET candidate = :candidate, reason = :reason, cure = :cure
WHERE reference = :reference AND standing = 'pinned'
AND (candidate IS DISTINCT FROM :candidate OR reason IS DISTINCT FROM :reason)
RETURNING 1

-- to_be_opened --
-- What the map names and is not known yet, or not there: one line for a room that would be made
-- (no user; what the map says no more has no template), and one for each account that it would be
-- opened to.
SELECT r.reference AS room, 'create room' AS what, NULL AS user, NULL AS "group", NULL AS request
FROM room_reference r WHERE r.standing = 'unresolved' AND r.template IS NOT NULL
AND (CAST(:reference AS TEXT) IS NULL OR r.reference = :reference)
UNION ALL
SELECT r.reference,
    CASE WHEN count(*) FILTER (WHERE NOT m.invite) = 0 THEN 'invite' ELSE 'join' END,
    coalesce(a.user_id, a.proposed), min(g.group_name), max(g.request)
FROM room_reference r CROSS JOIN mapping m CROSS JOIN mapping_grant g CROSS JOIN account a
WHERE r.standing = 'unresolved' AND (CAST(:reference AS TEXT) IS NULL OR r.reference = :reference)
AND m.reference = r.reference AND m.standing = 'in_force'
AND g.mapping_id = m.id AND g.state = 'granted'
AND a.id = g.account_id AND a.problem IS DISTINCT FROM 'conflict'
AND coalesce(a.user_id, a.proposed) IS NOT NULL
GROUP BY r.reference, a.id ORDER BY 1, 2, 3

-- fail_reference --
-- Why a reference leads nowhere, and when to try again. absent: the alias does not exist.
UPDATE room_reference SET standing = 'unresolved', candidate = NULL, attempts = attempts + 1,
    reason = :reason, cure = :cure, next_try = :next_try, absent = absent OR :absent
WHERE reference = :reference AND standing <> 'pinned'

-- succeed --
-- A room was upgraded, and what it means is the new one.
INSERT INTO room (room_id, successor) VALUES (:room_id, :successor)
ON CONFLICT (room_id) DO UPDATE SET successor = excluded.successor, upgrade_to = NULL,
    reason = NULL, cure = NULL, unusable = NULL

-- led_into --
-- The mappings that open a room on somebody's own power, with those whose it is. Not those of the
-- console for the room itself, whose makers are asked as soon as it is observed.
SELECT m.*, o.led_by FROM opening o JOIN mapping m ON m.id = o.mapping_id
WHERE o.room_id = :room_id AND o.standing = 'followed' AND o.led_by IS NOT NULL
AND (m.origin <> 'console' OR o.via IS NOT NULL)

-- is_given --
-- Whether a room is opened by a mapping that goes along with it wherever it goes.
SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id
WHERE o.room_id = :room_id AND o.standing = 'followed'
AND (o.led_by IS NULL OR (m.origin = 'console' AND o.via IS NULL)) LIMIT 1

-- succeed_references --
-- References that stood for a room stand for its successor, but those of mappings that stay.
UPDATE room_reference SET room_id = :successor, candidate = NULL, reason = NULL, cure = NULL
WHERE room_id = :room_id AND NOT EXISTS (SELECT 1 FROM mapping m
    WHERE m.reference = room_reference.reference
    AND m.id IN (SELECT value FROM each_number(:staying)))

-- open_successor --
-- Mappings that opened a room open its successor, but those that stay.
INSERT INTO opening (mapping_id, room_id, via, standing, led_by)
SELECT mapping_id, :successor, via, 'followed', led_by FROM opening
WHERE room_id = :room_id AND standing = 'followed'
AND mapping_id NOT IN (SELECT value FROM each_number(:staying))
ON CONFLICT (mapping_id, room_id) DO UPDATE SET standing = 'followed', reason = NULL, cure = NULL,
    led_by = excluded.led_by

-- close --
-- No mapping opens a room any more, but those that stay.
DELETE FROM opening WHERE room_id = :room_id
AND mapping_id NOT IN (SELECT value FROM each_number(:staying))

-- successors --
-- The rooms that took the place of others.
SELECT room_id, successor FROM room WHERE successor IS NOT NULL

-- refuse_upgrade --
-- An upgrade that is not followed, and why, which names the other room.
INSERT INTO room (room_id, upgrade_to, reason, cure)
VALUES (:room_id, :upgrade_to, :reason, :cure)
ON CONFLICT (room_id) DO UPDATE SET upgrade_to = excluded.upgrade_to, reason = excluded.reason,
    cure = excluded.cure
WHERE room.reason IS DISTINCT FROM excluded.reason
RETURNING 1

-- no_upgrade --
-- A room is not upgraded.
UPDATE room SET upgrade_to = NULL, reason = NULL, cure = NULL
WHERE room_id = :room_id AND upgrade_to IS NOT NULL

-- close_own --
-- A reference stands for another room: its mapping opens this one no more by itself.
DELETE FROM opening WHERE mapping_id = :mapping_id AND room_id = :room_id AND via IS NULL

-- open_own --
-- A mapping opens the room that it names.
INSERT INTO opening (mapping_id, room_id, standing, led_by)
VALUES (:mapping_id, :room_id, 'followed', :led_by)
ON CONFLICT (mapping_id, room_id) DO UPDATE SET standing = 'followed', via = NULL,
    reason = NULL, cure = NULL, led_by = excluded.led_by

-- openings --
-- The rooms below a mapping's space, as last judged.
SELECT room_id, via, standing, reason, cure, led_by FROM opening
WHERE mapping_id = :mapping_id AND via IS NOT NULL

-- open_child --
-- A room below a mapping's space, followed or not.
INSERT INTO opening (mapping_id, room_id, via, standing, reason, cure, led_by)
VALUES (:mapping_id, :room_id, :via, :standing, :reason, :cure, :led_by)
ON CONFLICT (mapping_id, room_id) DO UPDATE SET via = excluded.via, led_by = excluded.led_by,
    standing = excluded.standing, reason = excluded.reason, cure = excluded.cure
WHERE opening.via IS NOT NULL

-- close_child --
-- A room that is no longer below a mapping's space.
DELETE FROM opening WHERE mapping_id = :mapping_id AND room_id = :room_id AND via IS NOT NULL

-- children_known --
-- The rooms below a mapping's space have been read.
UPDATE mapping SET children_known = TRUE WHERE id = :mapping_id AND NOT children_known
RETURNING 1

-- stand --
-- Whether a mapping counts, and if not why; not one that was overruled or dropped meanwhile.
UPDATE mapping SET standing = :standing, reason = :reason, cure = :cure
WHERE id = :mapping_id AND standing IN ('in_force', 'suspended') AND (standing <> :standing OR reason IS DISTINCT FROM :reason)
RETURNING 1

-- disable --
-- Why a room cannot be used at present.
INSERT INTO room (room_id, unusable) VALUES (:room_id, :reason)
ON CONFLICT (room_id) DO UPDATE SET unusable = excluded.unusable

-- unsure_of_levels --
-- What was asked of a room's power levels may still be carried out until then, or was answered (none).
INSERT INTO room (room_id, levels_unsure_until) VALUES (:room_id, :until)
ON CONFLICT (room_id) DO UPDATE SET levels_unsure_until = excluded.levels_unsure_until

-- names --
-- What all rooms are called: by the map's alias, which the administrator chose; else as they call
-- themselves.
WITH mapped (room_id, name) AS (
    SELECT r.room_id, min(coalesce(m.alias, r.reference))
    FROM room_reference r JOIN mapping m ON m.reference = r.reference
    WHERE r.room_id IS NOT NULL AND m.standing <> 'dropped'
    AND coalesce(m.alias, r.reference) LIKE '#%' GROUP BY r.room_id
)
SELECT room_id, name FROM mapped
UNION ALL
SELECT room_id, coalesce(name, alias) FROM room
WHERE coalesce(name, alias) IS NOT NULL AND room_id NOT IN (SELECT room_id FROM mapped)

-- name --
-- The same of one room.
SELECT coalesce(
    (SELECT min(coalesce(m.alias, r.reference))
        FROM room_reference r JOIN mapping m ON m.reference = r.reference
        WHERE r.room_id = :room_id AND m.standing <> 'dropped'
        AND coalesce(m.alias, r.reference) LIKE '#%'),
    (SELECT coalesce(name, alias) FROM room WHERE room_id = :room_id)) AS name

-- own_names --
-- What some rooms call themselves, as last seen.
SELECT room_id, name, alias FROM room WHERE room_id IN (SELECT value FROM each_text(:rooms))

-- record_own_name --
-- What a room calls itself.
INSERT INTO room (room_id, name, alias) VALUES (:room_id, :name, :alias)
ON CONFLICT (room_id) DO UPDATE SET name = excluded.name, alias = excluded.alias

-- with_own_name --
-- The rooms that call themselves so, in whatever case; not those whose place another took.
SELECT room_id FROM room WHERE successor IS NULL
AND (alias = :name OR folded(name) = :folded) ORDER BY room_id

-- with_words --
-- The rooms with some text in their own name or alias, the map's, or their ID.
SELECT room_id FROM room WHERE place_in(folded(room_id), :words) > 0
    OR place_in(folded(name), :words) > 0 OR place_in(folded(alias), :words) > 0
UNION SELECT r.room_id FROM room_reference r LEFT JOIN mapping m ON m.reference = r.reference
WHERE r.room_id IS NOT NULL
AND (place_in(folded(r.reference), :words) > 0 OR place_in(folded(m.alias), :words) > 0)
ORDER BY 1

-- spaces_of --
-- The mapped spaces whose rooms are opened too and that hold a room, or are it.
SELECT DISTINCT r.room_id FROM mapping m JOIN room_reference r ON r.reference = m.reference
WHERE m.children AND m.standing <> 'dropped' AND r.room_id IS NOT NULL AND (r.room_id = :room_id
    OR EXISTS (SELECT 1 FROM opening o WHERE o.mapping_id = m.id AND (o.room_id = :room_id
        OR o.via = :room_id)))

-- led_to --
-- The rooms that mappings of a room lead to from there: those below it, of spaces.
SELECT DISTINCT o.room_id FROM mapping m JOIN room_reference r ON r.reference = m.reference
JOIN opening o ON o.mapping_id = m.id
WHERE m.standing <> 'dropped' AND r.room_id = :room_id AND o.via IS NOT NULL
AND o.standing = 'followed'

-- named --
-- The rooms that a name stands for: a reference, an alias of the console, or a room ID itself.
SELECT room_id FROM room_reference WHERE reference = :name AND room_id IS NOT NULL
UNION SELECT r.room_id FROM mapping m JOIN room_reference r ON r.reference = m.reference
    WHERE m.alias = :name AND r.room_id IS NOT NULL
UNION SELECT room_id FROM membership WHERE room_id = :name
UNION SELECT room_id FROM opening WHERE room_id = :name
UNION SELECT room_id FROM room WHERE room_id = :name

-- lead --
-- On whose own power a mapping's own room rests.
UPDATE opening SET led_by = :led_by
WHERE mapping_id = :mapping_id AND via IS NULL AND led_by IS DISTINCT FROM :led_by RETURNING 1

-- any_led --
-- Whether somebody is to leave a room whom only mappings gave it that rest on somebody's own power,
-- or such a mapping lets nobody else stay there.
SELECT 1 FROM membership WHERE room_id = :room_id AND led AND todo = 'leave'
UNION ALL
SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id
WHERE o.room_id = :room_id AND o.led_by IS NOT NULL AND m.exclusive
AND o.standing = 'followed' AND m.standing = 'in_force'
LIMIT 1

-- leading_away --
-- Whose power the mappings rest on that gave an account a room, and count there now.
SELECT o.led_by FROM mapping_grant g
JOIN mapping m ON m.id = g.mapping_id AND m.standing = 'in_force'
JOIN opening o ON o.mapping_id = m.id AND o.standing = 'followed'
WHERE g.account_id = :account_id AND o.room_id = :room_id

-- leading_exclusively --
-- Whose power the mappings rest on that let nobody else stay in a room.
SELECT o.led_by FROM opening o JOIN mapping m ON m.id = o.mapping_id
WHERE o.room_id = :room_id AND o.standing = 'followed' AND m.standing = 'in_force' AND m.exclusive
