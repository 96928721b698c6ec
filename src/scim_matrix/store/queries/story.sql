-- accounts_called --
-- The accounts that somebody may mean by a SCIM id, a user name or a user ID, that of a second
-- account too. Of one that a human took from its user it is that user who is meant.
SELECT id FROM account WHERE scim_id = :name
UNION SELECT id FROM account WHERE user_id = :name AND (desired <> 'unmanaged'
    OR NOT EXISTS (SELECT 1 FROM account u WHERE u.proposed = :name AND u.user_id IS NULL))
UNION SELECT id FROM account WHERE proposed = :name AND user_id IS NULL
UNION SELECT a.id FROM scim_user u CROSS JOIN account a
    WHERE u.user_name_key = :folded AND a.scim_id = u.id
UNION SELECT account_id FROM second_account WHERE user_id = :name

-- accounts_of_deleted --
-- The accounts of those whom the identity provider deleted, by user ID.
SELECT id FROM account WHERE user_id = :user_id AND scim_id IS NULL
AND desired IN ('deleted', 'expired')

-- any_account --
-- An account, whose server is that of all.
SELECT user_id FROM account WHERE user_id IS NOT NULL LIMIT 1

-- groups_called --
-- The groups that somebody may mean by a SCIM id, an externalId or a name in any case.
SELECT id FROM scim_group WHERE id = :name
UNION SELECT id FROM scim_group WHERE external_id = :name
UNION SELECT id FROM scim_group WHERE display_name_key = :folded

-- former --
-- The names that groups had, the newest end first.
SELECT group_id, name, request, until FROM former_name ORDER BY until DESC, group_id, name

-- end_name --
-- A group is not called so any more.
INSERT INTO former_name (group_id, name, request, until)
VALUES (:group_id, :name, :request, :until)

-- called_now --
-- What some groups are called, and which groups have some names.
SELECT g.id, g.display_name FROM each_text(:ids) j CROSS JOIN scim_group g WHERE g.id = j.value
UNION
SELECT g.id, g.display_name FROM each_text(:keys) j CROSS JOIN scim_group g
WHERE g.display_name_key = j.value

-- is_seen --
-- Whether somebody is in a room by hand, or on record.
SELECT EXISTS (SELECT 1 FROM unmanaged_member WHERE user_id = :user_id)
    OR EXISTS (SELECT 1 FROM action WHERE user_id = :user_id) AS seen

-- account --
-- An account with its user, if there still is one.
SELECT a.*, u.document, u.created, u.last_modified, u.active
FROM account a LEFT JOIN scim_user u ON u.id = a.scim_id WHERE a.id = :id

-- second_accounts --
-- The accounts that somebody signed in to by SSO besides the one that is kept in line.
SELECT user_id, subject FROM second_account WHERE account_id = :id ORDER BY user_id

-- edges --
-- The groups around a user or a group, and which of them is in which.
WITH RECURSIVE around (id) AS (
    SELECT :id UNION
    SELECT m.group_id FROM around CROSS JOIN group_member m WHERE m.value = around.id
)
SELECT m.value AS inner_id, m.group_id AS outer_id, g.display_name AS "outer"
FROM around CROSS JOIN group_member m CROSS JOIN scim_group g
WHERE m.value = around.id AND g.id = m.group_id ORDER BY g.display_name_key, g.id

-- keys --
-- Which mappings some groups fall under.
SELECT g.id AS group_id, m.id AS mapping_id FROM each_text(:groups) j CROSS JOIN scim_group g
JOIN mapping m ON (m.kind = 'external_id' AND g.external_id = m.pattern)
    OR (m.kind = 'group_id' AND g.id = m.pattern)
    OR (m.kind = 'display_name' AND matches(m.pattern, g.display_name))
WHERE g.id = j.value AND m.standing <> 'dropped' ORDER BY g.display_name_key

-- given --
-- What mappings give an account, room by room, and what keeps them from it.
SELECT m.id AS mapping_id, m.kind, m.pattern, m.reference, m.alias, m.power, m.invite,
    m.exclusive, m.made_by, m.standing AS mapping_standing, m.reason AS mapping_reason,
    m.cure AS mapping_cure, g.group_name, r.standing AS reference_standing,
    coalesce(r.room_id, r.candidate) AS reference_room, r.reason AS reference_reason,
    r.cure AS reference_cure, o.room_id, o.via, o.standing AS opening_standing,
    o.reason AS opening_reason, o.cure AS opening_cure
FROM mapping_grant g CROSS JOIN mapping m CROSS JOIN room_reference r
LEFT JOIN opening o ON o.mapping_id = m.id
WHERE g.account_id = :id AND g.state = 'granted' AND m.id = g.mapping_id
AND m.standing <> 'dropped' AND r.reference = m.reference ORDER BY m.id, o.room_id

-- places --
-- Where an account is or should be. opened: whether the map opens the room at present.
SELECT p.*, r.unusable, EXISTS (SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id
    WHERE o.room_id = p.room_id AND o.standing = 'followed' AND m.standing = 'in_force') AS opened
FROM membership p LEFT JOIN room r ON r.room_id = p.room_id
WHERE p.account_id = :id ORDER BY p.state <> 'granted', p.room_id

-- closed --
-- The lines of the map that let nobody else be in some rooms, the oldest first, and whose they are.
SELECT o.room_id, m.kind, m.pattern, m.reference, m.alias, m.origin, m.made_by, m.made_at,
    g.display_name AS "group"
FROM each_text(:rooms) j CROSS JOIN opening o CROSS JOIN mapping m
LEFT JOIN scim_group g ON m.kind = 'group_id' AND g.id = m.pattern
WHERE o.room_id = j.value AND o.standing = 'followed' AND m.id = o.mapping_id AND m.exclusive
AND m.standing = 'in_force' ORDER BY o.room_id, m.id

-- places_by_hand --
-- The rooms in which somebody is whom nothing brought there.
SELECT room_id FROM unmanaged_member WHERE user_id = :user_id ORDER BY room_id

-- lately_to --
-- What was done to somebody, the newest first.
SELECT at, kind, outcome, user_id, room_id, group_name, request, detail, decided_by AS "by",
    1 AS people, 1 AS requests
FROM action WHERE user_id = :user_id ORDER BY id DESC LIMIT :limit

-- room --
-- A room.
SELECT * FROM room WHERE room_id = :room_id

-- references --
-- What the map calls a room, or a room that waits.
SELECT * FROM room_reference WHERE room_id = :room_id OR candidate = :room_id

-- openers --
-- The lines of the map that open a room, with whom each gives it.
SELECT m.id AS mapping_id, m.kind, m.pattern, m.reference, m.alias, m.power, m.invite,
    m.exclusive, m.made_by, m.standing AS mapping_standing, m.reason AS mapping_reason,
    m.cure AS mapping_cure, r.standing AS reference_standing, r.reason AS reference_reason,
    r.cure AS reference_cure, o.via, o.standing AS opening_standing,
    o.reason AS opening_reason, o.cure AS opening_cure,
    (SELECT count(*) FROM mapping_grant g WHERE g.mapping_id = m.id AND g.state = 'granted')
        AS people,
    (SELECT comma_list(DISTINCT g.display_name) FROM scim_group g
        WHERE (m.kind = 'external_id' AND g.external_id = m.pattern)
        OR (m.kind = 'group_id' AND g.id = m.pattern)
        OR (m.kind = 'display_name' AND matches(m.pattern, g.display_name))) AS groups
FROM mapping m JOIN room_reference r ON r.reference = m.reference
LEFT JOIN opening o ON o.mapping_id = m.id AND o.room_id = :room_id
WHERE m.standing <> 'dropped' AND (o.room_id IS NOT NULL OR r.candidate = :room_id)
ORDER BY m.id

-- people --
-- Who is in a room or should be, in numbers: alike are those of one state, group and reason, of
-- whom one is named. Who has left, or was forgotten and is out, is left out. Of most, who are where
-- they should be, only the group matters.
WITH alike AS (
    SELECT state, observed, left_by_choice, todo, brake, held_because, problem, reason, group_name,
        account_id IN (SELECT id FROM account WHERE problem IS NOT NULL AND problem = 'conflict')
            AS in_conflict,
        state = 'forgotten' AND EXISTS (SELECT 1 FROM suspended_grant g
            WHERE g.room_id = :room_id AND g.account_id = membership.account_id) AS is_suspended,
        request, count(*) AS people, min(account_id) AS account_id, min(nullif(since, 0)) AS first,
        max(since) AS last
    FROM membership WHERE room_id = :room_id
    AND NOT (state <> 'granted' AND observed IS NOT DISTINCT FROM 'leave')
    AND NOT (state = 'granted' AND observed IS NOT DISTINCT FROM 'join')
    GROUP BY request, state, observed, left_by_choice, todo, brake, held_because, problem, reason,
        group_name, in_conflict, is_suspended
),
told AS (
    SELECT state, observed, left_by_choice, todo, brake, held_because, problem, reason, group_name,
        in_conflict, is_suspended, sum(people) AS people, min(account_id) AS account_id, min(first) AS first,
        max(last) AS last, count(request) AS requests,
        CASE WHEN count(*) = 1 THEN max(request) END AS request
    FROM alike
    GROUP BY state, observed, left_by_choice, todo, brake, held_because, problem, reason,
        group_name, in_conflict, is_suspended
    UNION ALL
    SELECT 'granted', 'join', FALSE, NULL, 'free', NULL, CASE WHEN power_todo THEN problem END,
        CASE WHEN power_todo THEN reason END, group_name, FALSE, FALSE, count(*), min(account_id), NULL,
        NULL, 0, NULL
    FROM membership WHERE room_id = :room_id AND state = 'granted' AND observed = 'join'
    GROUP BY group_name, CASE WHEN power_todo THEN problem END,
        CASE WHEN power_todo THEN reason END
)
SELECT t.*, coalesce(a.user_id, a.proposed) AS user_id FROM told t JOIN account a
ON a.id = t.account_id ORDER BY t.brake <> 'held', t.people DESC, t.group_name NULLS FIRST

-- people_held --
-- Whose removal from a room waits for a human.
SELECT a.user_id FROM membership m CROSS JOIN account a
WHERE m.room_id = :room_id AND m.brake = 'held' AND m.brake <> 'free' AND a.id = m.account_id
AND a.user_id IS NOT NULL ORDER BY a.user_id

-- people_by_hand --
-- Who is in a room whom nothing brought there; whom the map forgot is told of as such.
SELECT user_id FROM unmanaged_member WHERE room_id = :room_id AND user_id NOT IN (
    SELECT a.user_id FROM membership m CROSS JOIN account a
    WHERE m.room_id = :room_id AND m.state = 'forgotten' AND m.observed = 'join'
    AND a.id = m.account_id AND a.user_id IS NOT NULL) ORDER BY user_id

-- lately_in --
-- What was done in a room, the newest first: alike are those of an hour, a group, an outcome and
-- whoever decided. Request and detail are told where they are those of all.
SELECT max(at) AS at, kind, outcome, room_id, group_name, count(DISTINCT user_id) AS people,
    min(user_id) AS user_id, count(DISTINCT request) AS requests,
    CASE WHEN count(DISTINCT coalesce(request, '')) = 1 THEN max(request) END AS request,
    CASE WHEN count(DISTINCT coalesce(detail, '')) = 1 THEN max(detail) END AS detail,
    decided_by AS "by"
FROM (SELECT * FROM action WHERE room_id = :room_id ORDER BY id DESC LIMIT 5000) recent
GROUP BY kind, outcome, room_id, group_name, decided_by, CAST(at AS BIGINT) / 3600
ORDER BY 1 DESC LIMIT :limit

-- group --
-- A group with how many people are in it, and how many active ones with those of groups inside.
WITH RECURSIVE below (id) AS (
    SELECT :id UNION
    SELECT g.id FROM below CROSS JOIN group_member m CROSS JOIN scim_group g
    WHERE m.group_id = below.id AND g.id = m.value
),
direct (people) AS MATERIALIZED (
    SELECT count(*) FROM group_member m CROSS JOIN scim_user u
    WHERE m.group_id = :id AND u.id = m.value
)
SELECT g.id, g.display_name, g.external_id, g.created, g.last_modified, direct.people AS direct,
    CASE WHEN (SELECT count(*) FROM below) = 1 THEN direct.people ELSE (
        SELECT count(*) FROM (SELECT DISTINCT m.value FROM below CROSS JOIN group_member m
            WHERE m.group_id = below.id) p CROSS JOIN scim_user u WHERE u.id = p.value) END
        - (SELECT count(*) FROM scim_user u WHERE NOT u.active AND EXISTS (SELECT 1 FROM below
            CROSS JOIN group_member m WHERE m.group_id = below.id AND m.value = u.id)) AS active
FROM direct CROSS JOIN scim_group g WHERE g.id = :id

-- name_given --
-- The name by which a mapping of one group gave something last.
SELECT g.group_name FROM mapping m CROSS JOIN mapping_grant g
WHERE m.kind = 'group_id' AND m.pattern = :id AND g.mapping_id = m.id
AND g.group_name IS NOT NULL LIMIT 1

-- inside --
-- The groups that are members of a group.
SELECT g.id, g.display_name FROM group_member m CROSS JOIN scim_group g
WHERE m.group_id = :id AND g.id = m.value ORDER BY g.display_name_key

-- openers_of --
-- The rooms that lines of the map open for some groups, and who of those whom each gives it is
-- there.
SELECT n.id AS group_id, n.display_name AS name, m.id AS mapping_id, m.kind, m.pattern,
    m.reference, m.alias, m.power, m.invite, m.exclusive, m.made_by,
    m.standing AS mapping_standing, m.reason AS mapping_reason, m.cure AS mapping_cure,
    r.standing AS reference_standing, coalesce(r.room_id, r.candidate) AS reference_room,
    r.reason AS reference_reason, r.cure AS reference_cure, o.room_id, o.via,
    o.standing AS opening_standing, o.reason AS opening_reason, o.cure AS opening_cure,
    (SELECT t.unusable FROM room t WHERE t.room_id = o.room_id) AS unusable,
    (SELECT count(*) FROM mapping_grant g CROSS JOIN membership p WHERE g.mapping_id = m.id
        AND g.state = 'granted' AND p.room_id = o.room_id AND p.account_id = g.account_id
        AND p.observed = 'join') AS joined,
    CASE WHEN (SELECT c.todo FROM room_count c WHERE c.room_id = o.room_id) > 0 THEN
        (SELECT count(*) FROM mapping_grant g CROSS JOIN membership p WHERE g.mapping_id = m.id
        AND g.state = 'granted' AND p.room_id = o.room_id AND p.account_id = g.account_id
        AND p.todo IN ('join', 'invite') AND NOT EXISTS (SELECT 1 FROM account a
            WHERE a.id = p.account_id AND a.problem IS NOT NULL AND a.problem = 'conflict'))
    ELSE 0 END AS waiting,
    (SELECT count(*) FROM membership p CROSS JOIN mapping_grant g WHERE p.room_id = o.room_id
        AND p.problem IS NOT NULL AND p.problem = 'refused' AND p.power_todo
        AND m.power IS NOT NULL AND g.mapping_id = m.id AND g.account_id = p.account_id
        AND g.state = 'granted') AS powerless,
    (SELECT max(p.reason) FROM membership p CROSS JOIN mapping_grant g WHERE p.room_id = o.room_id
        AND p.problem IS NOT NULL AND p.problem = 'refused' AND p.power_todo
        AND m.power IS NOT NULL AND g.mapping_id = m.id AND g.account_id = p.account_id
        AND g.state = 'granted') AS power_reason
FROM each_text(:groups) j CROSS JOIN scim_group n
JOIN mapping m ON (m.kind = 'external_id' AND n.external_id = m.pattern)
    OR (m.kind = 'group_id' AND n.id = m.pattern)
    OR (m.kind = 'display_name' AND matches(m.pattern, n.display_name))
JOIN room_reference r ON r.reference = m.reference
LEFT JOIN opening o ON o.mapping_id = m.id
WHERE n.id = j.value AND m.standing <> 'dropped' ORDER BY m.id, o.room_id

-- leaving --
-- Who is to leave rooms because of a group, by the names that it had, in numbers, whatever opens the
-- rooms by now: of all who are to leave any room those are chosen whom the group had brought there.
-- Compared by <= because SQLite then takes the index of turns, which says that of few.
WITH spans (name, after, until) AS (
    SELECT value ->> 'name', CAST(value ->> 'after' AS DOUBLE PRECISION),
        CAST(value ->> 'until' AS DOUBLE PRECISION) FROM each_entry(:spans)
),
due AS (
    SELECT * FROM membership WHERE brake = 'held' AND brake <> 'free' AND state = 'revoked'
    UNION ALL
    SELECT m.* FROM room_count c CROSS JOIN membership m
    WHERE c.todo > 0 AND m.room_id = c.room_id AND m.ready AND (m.todo <> 'leave') <= FALSE
    AND m.state = 'revoked'
    UNION ALL
    SELECT m.* FROM account a CROSS JOIN membership m
    WHERE a.problem IS NOT NULL AND a.problem = 'conflict' AND m.account_id = a.id
    AND m.todo = 'leave' AND NOT m.ready AND m.state = 'revoked'
)
SELECT m.room_id, m.brake, m.held_because, m.reason, count(*) AS people, min(m.since) AS first,
    a.problem IS NOT NULL AND a.problem = 'conflict' AS in_conflict
FROM due m CROSS JOIN spans s CROSS JOIN account a
WHERE s.name = m.group_name AND m.since > s.after AND m.since <= s.until AND a.id = m.account_id
GROUP BY m.room_id, m.brake, m.held_because, m.reason, in_conflict
ORDER BY m.brake <> 'held', m.room_id

-- lately_by --
-- What was done because of a group, by the names that it had, and with it, the newest first; see
-- lately_in.
SELECT max(at) AS at, kind, outcome, room_id, group_name, count(DISTINCT user_id) AS people,
    min(user_id) AS user_id, count(DISTINCT request) AS requests,
    CASE WHEN count(DISTINCT coalesce(request, '')) = 1 THEN max(request) END AS request,
    CASE WHEN count(DISTINCT coalesce(detail, '')) = 1 THEN max(detail) END AS detail,
    decided_by AS "by"
FROM (SELECT * FROM action ORDER BY id DESC LIMIT 20000) recent
WHERE (kind NOT IN ('rename_group', 'delete_group') AND EXISTS (SELECT 1 FROM each_entry(:spans) s
    WHERE s.value ->> 'name' = recent.group_name
    AND (s.value ->> 'request' = recent.request
        OR (recent.at > CAST(s.value ->> 'after' AS DOUBLE PRECISION)
            AND recent.at <= CAST(s.value ->> 'until' AS DOUBLE PRECISION)
            AND NOT EXISTS (SELECT 1 FROM each_text(s.value ->> 'others') o
                WHERE o.value = recent.request)))))
OR (kind IN ('rename_group', 'delete_group') AND user_id = :id)
GROUP BY kind, outcome, room_id, group_name, decided_by, CAST(at AS BIGINT) / 3600
ORDER BY 1 DESC LIMIT :limit

-- lately --
-- What was done of late anywhere, the newest first; see lately_in.
SELECT max(at) AS at, kind, outcome, room_id, group_name, count(DISTINCT user_id) AS people,
    min(user_id) AS user_id, count(DISTINCT request) AS requests,
    CASE WHEN count(DISTINCT coalesce(request, '')) = 1 THEN max(request) END AS request,
    CASE WHEN count(DISTINCT coalesce(detail, '')) = 1 THEN max(detail) END AS detail,
    decided_by AS "by"
FROM (SELECT * FROM action ORDER BY id DESC LIMIT 2000) recent
GROUP BY kind, outcome, room_id, group_name, decided_by, CAST(at AS BIGINT) / 3600
ORDER BY max(id) DESC LIMIT :limit
