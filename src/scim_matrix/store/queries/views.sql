-- users --
-- Users with their accounts.
SELECT u.id, u.document ->> 'userName' AS "userName", a.user_id AS account,
    CASE WHEN a.problem = 'conflict' THEN 'conflict'
        WHEN a.user_id IS NULL AND a.desired <> 'active' THEN 'none'
        WHEN a.user_id IS NULL OR (a.todo IS NOT NULL AND a.brake = 'free') THEN 'pending'
        WHEN a.brake = 'held' THEN 'held'
        ELSE a.desired END AS state,
    a.bound_by AS bound, a.todo IS NULL AS applied, a.brake = 'held' AS held,
    CASE WHEN a.by_hand IS NOT NULL AND a.problem IS NULL THEN a.by_hand || ' by hand'
        WHEN a.problem IS NULL AND s.user_id IS NOT NULL
        THEN 'signed in by SSO as another account, ' || s.user_id || ', whose subject is '
            || s.subject || '; theirs is ' || coalesce(a.subject, 'not known')
        ELSE a.reason END AS problem,
    CASE WHEN a.by_hand IS NOT NULL AND a.problem IS NULL
        THEN 'only a hand takes off what a hand did'
        WHEN a.problem IS NULL AND s.user_id IS NOT NULL
        THEN 'let both be the same (docs/setup/README.md); then, if they use ' || s.user_id
            || ' by now: scim-matrix users link ' || u.id || ' ' || s.user_id
        ELSE a.cure END AS cure,
    a.notice, (SELECT count(*) FROM membership m
        WHERE m.account_id = a.id AND m.state = 'granted') AS rooms, a.subject
FROM scim_user u LEFT JOIN account a ON a.scim_id = u.id
LEFT JOIN second_account s ON s.user_id = (SELECT min(x.user_id) FROM second_account x
    WHERE x.account_id = a.id)
WHERE CAST(:like AS TEXT) IS NULL OR matches(:like, u.document ->> 'userName')
    OR matches(:like, a.user_id)
ORDER BY u.user_name_key

-- subjects --
-- How many users there are, how many of them have an SSO subject, and of how many the account is
-- known to be linked to it.
SELECT count(*) AS users, count(subject) AS with_subject, count(CASE WHEN user_id IS NOT NULL
    AND text_at(confirmed_profile, '$.subject') = subject THEN 1 END) AS linked
FROM account WHERE scim_id IS NOT NULL

-- groups --
-- Groups with how many members they have and what they open.
SELECT g.id, g.display_name AS "displayName", g.external_id AS "externalId",
    (SELECT count(*) FROM group_member m WHERE m.group_id = g.id) AS members,
    (SELECT comma_list(DISTINCT coalesce(m.alias, m.reference)) FROM mapping m
        WHERE m.standing <> 'dropped' AND ((m.kind = 'external_id' AND g.external_id = m.pattern)
        OR (m.kind = 'group_id' AND g.id = m.pattern)
        OR (m.kind = 'display_name' AND matches(m.pattern, g.display_name)))) AS rooms
FROM scim_group g WHERE CAST(:like AS TEXT) IS NULL OR matches(:like, g.display_name)
ORDER BY g.display_name_key

-- rooms --
-- Every room that the map names, or that a step leads to, and how many people are in it by what. And
-- those that it names no more, as long as somebody is to leave them.
WITH named (reference, room_id, standing, problem, cure) AS (
    SELECT r.reference, coalesce(r.room_id, r.candidate),
        CASE WHEN r.standing = 'pinned' AND r.candidate IS NOT NULL THEN 'alias_moved'
            WHEN r.standing = 'pinned' THEN 'followed' ELSE r.standing END,
        r.reason, r.cure FROM room_reference r WHERE EXISTS (SELECT 1 FROM mapping m
            WHERE m.reference = r.reference AND m.standing <> 'dropped')
    UNION ALL
    SELECT m.reference, o.room_id, o.standing, o.reason, o.cure
    FROM mapping m JOIN opening o ON o.mapping_id = m.id
    WHERE o.via IS NOT NULL AND m.standing <> 'dropped'
),
left_over (room_id) AS (
    SELECT room_id FROM membership WHERE brake = 'held' AND brake <> 'free'
    UNION SELECT room_id FROM room_count WHERE todo > 0
)
SELECT coalesce((SELECT min(m.alias) FROM mapping m WHERE m.reference = n.reference),
        n.reference) AS room, n.room_id,
    (SELECT comma_list(DISTINCT CASE m.kind WHEN 'everyone' THEN '*'
        WHEN 'display_name' THEN 'displayName:' || m.pattern
        WHEN 'group_id' THEN 'group ' || coalesce((SELECT g.display_name FROM scim_group g
            WHERE g.id = m.pattern), m.pattern) ELSE m.pattern END)
        FROM mapping m WHERE m.reference = n.reference AND m.standing <> 'dropped') AS keys,
    (SELECT count(*) FROM membership p WHERE p.room_id = n.room_id AND p.state = 'granted')
        AS granted,
    (SELECT count(*) FROM membership p WHERE p.room_id = n.room_id AND p.state = 'granted'
        AND p.observed = 'join') AS joined,
    (SELECT count(*) FROM membership p WHERE p.room_id = n.room_id AND p.brake = 'held') AS held,
    (SELECT count(*) FROM unmanaged_member s WHERE s.room_id = n.room_id) AS unmanaged,
    CASE WHEN (SELECT count(*) FROM mapping m WHERE m.reference = n.reference
            AND m.standing = 'in_force') = 0 THEN 'suspended'
        WHEN t.upgrade_to IS NOT NULL AND min(n.standing) = 'followed' THEN 'not_followed'
        ELSE min(n.standing) END AS standing,
    coalesce(t.unusable, max(n.problem), t.reason, (SELECT max(m.reason) FROM mapping m
        WHERE m.reference = n.reference AND m.standing = 'suspended')) AS problem,
    coalesce(max(n.cure), t.cure, (SELECT max(m.cure) FROM mapping m
        WHERE m.reference = n.reference AND m.standing = 'suspended')) AS cure
FROM named n LEFT JOIN room t ON t.room_id = n.room_id
GROUP BY n.reference, n.room_id, t.room_id
UNION ALL
SELECT l.room_id, l.room_id, NULL, 0, 0,
    (SELECT count(*) FROM membership p WHERE p.room_id = l.room_id AND p.brake = 'held'),
    (SELECT count(*) FROM unmanaged_member s WHERE s.room_id = l.room_id), 'unmapped',
    'the map no longer names it, and somebody is still to leave it',
    CASE WHEN EXISTS (SELECT 1 FROM membership p WHERE p.room_id = l.room_id
            AND p.brake = 'held' AND p.brake <> 'free')
        THEN 'scim-matrix approve ''' || l.room_id || ''', or to keep them: scim-matrix dismiss '''
            || l.room_id || ''''
        WHEN EXISTS (SELECT 1 FROM membership p WHERE p.room_id = l.room_id
            AND p.todo IS NOT NULL AND p.state = 'revoked' AND p.brake = 'free')
        THEN 'put the line back, or scim-matrix sync --prune' END
FROM left_over l WHERE NOT EXISTS (SELECT 1 FROM named n WHERE n.room_id = l.room_id)
ORDER BY 1, 2 NULLS FIRST

-- pinned --
-- What the aliases of the map stand for, and where they lead instead.
SELECT r.reference, r.room_id, r.candidate, r.reason, r.cure FROM room_reference r
WHERE r.standing = 'pinned' AND EXISTS (SELECT 1 FROM mapping m
    WHERE m.reference = r.reference AND m.standing <> 'dropped')

-- people --
-- Who is in a room.
SELECT m.room_id, coalesce(a.user_id, a.proposed) AS user_id, m.account_id, m.state,
    m.state = 'granted' AS granted, m.observed AS membership, m.power,
    m.brake = 'held' AS held, m.left_by_choice,
    m.todo IS NOT NULL OR m.power_todo AS pending, m.reason AS error
FROM membership m JOIN account a ON a.id = m.account_id WHERE m.room_id = :room_id
UNION ALL
SELECT room_id, user_id, NULL, 'unmanaged', FALSE, 'join', NULL, FALSE, FALSE, FALSE, NULL
FROM unmanaged_member WHERE room_id = :room_id
ORDER BY 2 NULLS FIRST

-- places --
-- Where some are whose user IDs are listed, in that order.
WITH listed (user_id, number) AS MATERIALIZED (SELECT atom, key FROM each_entry(:user_ids))
SELECT m.room_id, a.user_id, m.account_id, m.state,
    m.state = 'granted' AS granted, m.observed AS membership, m.power,
    m.brake = 'held' AS held, m.left_by_choice,
    m.todo IS NOT NULL OR m.power_todo AS pending, m.reason AS error, l.number
FROM listed l CROSS JOIN account a CROSS JOIN membership m
WHERE a.user_id = l.user_id AND m.account_id = a.id
UNION ALL
SELECT u.room_id, u.user_id, NULL, 'unmanaged', FALSE, 'join', NULL, FALSE, FALSE, FALSE, NULL,
    l.number
FROM unmanaged_member u CROSS JOIN listed l WHERE l.user_id = u.user_id
ORDER BY 12, 1

-- work --
-- What is left to do, fails, is held or spared, and what a human may have to settle: what is held
-- first, then what needs somebody, and of those what has waited longest.
SELECT * FROM (SELECT CASE WHEN m.brake = 'held' THEN 'held' WHEN m.problem = 'spared' THEN 'spared'
        WHEN m.problem = 'withheld' THEN 'withheld'
        WHEN a.by_hand = 'deactivated' AND m.todo <> 'leave' THEN 'by_hand'
        WHEN m.problem IS NULL THEN 'pending' ELSE 'failing' END AS state,
    coalesce(m.todo, CASE WHEN m.brake = 'held' THEN 'leave' ELSE 'power' END) AS what,
    m.room_id AS room, coalesce(a.user_id, a.proposed) AS user,
    CASE WHEN m.state <> 'excluded' THEN m.group_name END AS "group",
    CASE WHEN m.brake = 'held' THEN CASE m.held_because
        WHEN 'restored' THEN 'restored from a backup: waits for the identity provider''s word'
        ELSE 'unusually many removals' || CASE m.state WHEN 'excluded'
            THEN ': the room is to hold nobody else' ELSE '' END END
        WHEN a.by_hand = 'deactivated' AND m.todo <> 'leave'
        THEN 'somebody deactivated the account by hand' ELSE m.reason END AS reason,
    CASE WHEN m.brake = 'held' THEN CASE m.held_because
        WHEN 'restored' THEN 'scim-matrix approve restored, or let the identity provider synchronise'
        ELSE 'scim-matrix approve ''' || m.room_id || ''', or to keep them: scim-matrix dismiss '''
            || m.room_id || '''' END
        WHEN m.problem = 'spared' THEN 'done when that is no longer so, or by a hand'
        WHEN a.by_hand = 'deactivated' AND m.todo <> 'leave'
        THEN 'nothing, if that was meant: done once somebody reactivates the account' END AS cure,
    CASE WHEN m.held_because = 'restored' THEN 'restored' WHEN m.brake = 'held' THEN 'removals-held'
        WHEN m.problem = 'spared' THEN 'spared' WHEN m.problem = 'unavailable' THEN 'no-answer'
        WHEN m.problem = 'withheld' THEN 'dry-run' WHEN m.problem IS NULL THEN NULL
        WHEN m.todo IS NULL THEN 'power-refused' ELSE 'action-refused' END AS code,
    m.since, m.request
FROM membership m JOIN account a ON a.id = m.account_id
WHERE (m.brake = 'held' OR m.todo IS NOT NULL OR m.power_todo)
AND a.problem IS DISTINCT FROM 'conflict'
AND (a.user_id IS NOT NULL OR (a.desired = 'active' AND m.todo <> 'leave'))
AND (m.state = 'pruned' OR m.brake <> 'free' OR EXISTS (SELECT 1 FROM opening o
    JOIN mapping p ON p.id = o.mapping_id WHERE o.room_id = m.room_id
    AND o.standing = 'followed' AND p.standing = 'in_force'))
UNION ALL
SELECT 'waiting', 'leave', m.room_id, a.user_id, m.group_name,
    'no line of the map that counts opens the room any more',
    'put the line back, or scim-matrix sync --prune', 'removal-waits', m.since, m.request
FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.todo IS NOT NULL AND m.state = 'revoked' AND m.brake = 'free' AND a.user_id IS NOT NULL
AND a.problem IS DISTINCT FROM 'conflict' AND NOT EXISTS (SELECT 1 FROM opening o
    JOIN mapping p ON p.id = o.mapping_id WHERE o.room_id = m.room_id
    AND o.standing = 'followed' AND p.standing = 'in_force')
UNION ALL
SELECT CASE WHEN brake = 'held' THEN 'held' WHEN problem = 'conflict' THEN 'conflict'
        WHEN problem = 'spared' THEN 'spared' WHEN problem = 'withheld' THEN 'withheld'
        WHEN problem IS NULL THEN 'pending' ELSE 'failing' END,
    'account ' || desired, NULL, coalesce(user_id, proposed, scim_id), NULL,
    CASE WHEN brake = 'held' THEN CASE held_because
        WHEN 'restored' THEN 'restored from a backup: waits for the identity provider''s word'
        ELSE 'unusually many accounts' END ELSE reason END,
    CASE WHEN brake = 'held' THEN CASE held_because
        WHEN 'restored' THEN 'scim-matrix approve restored, or let the identity provider synchronise'
        ELSE 'scim-matrix approve accounts, or to keep them: scim-matrix dismiss accounts' END ELSE cure END,
    CASE WHEN held_because = 'restored' THEN 'restored' WHEN brake = 'held' THEN 'accounts-held'
        WHEN problem = 'conflict' THEN 'account-conflict' WHEN problem = 'spared' THEN 'spared'
        WHEN problem = 'withheld' THEN 'dry-run' WHEN problem IS NOT NULL THEN 'account-failed' END,
    since, request
FROM account WHERE brake = 'held' OR todo IS NOT NULL OR problem = 'conflict'
UNION ALL
SELECT CASE standing WHEN 'unresolved' THEN 'failing' ELSE 'not_followed' END, 'room', reference,
    NULL, NULL, reason, cure, CASE standing WHEN 'unresolved' THEN 'room-unresolved'
        WHEN 'waiting' THEN 'room-waits' ELSE 'alias-moved' END, 0, NULL FROM room_reference r WHERE reason IS NOT NULL
    AND EXISTS (SELECT 1 FROM mapping m
        WHERE m.reference = r.reference AND m.standing <> 'dropped')
UNION ALL
SELECT 'failing', 'room', room_id, NULL, NULL, unusable, NULL, 'room-unusable', 0, NULL
FROM unusable_room
UNION ALL
SELECT 'not_followed', 'upgrade', room_id, NULL, NULL, reason, cure, 'upgrade-not-followed', 0, NULL
FROM unfollowed_upgrade
UNION ALL
SELECT DISTINCT 'not_followed', 'space', o.room_id, NULL, NULL, o.reason, o.cure,
    'child-not-followed', 0, NULL
FROM opening o JOIN mapping m ON m.id = o.mapping_id
WHERE o.standing = 'not_followed' AND m.standing = 'in_force'
UNION ALL
SELECT 'suspended', 'mapping', coalesce(alias, reference), made_by, coalesce((
        SELECT g.display_name FROM scim_group g WHERE kind = 'group_id' AND g.id = pattern),
    pattern), reason, cure,
    'mapping-suspended', 0, NULL
FROM mapping WHERE standing = 'suspended'
UNION ALL
SELECT 'failing', 'map', NULL, NULL, NULL,
    'the group map of ' || r.name || ' is another than that of ' || l.name || ', which is in force',
    'give all services the same map', 'group-map-differs', 0, NULL
FROM lease l JOIN replica o ON o.holder = l.holder
JOIN replica r ON r.map <> o.map
UNION ALL
SELECT 'failing', 'settings', NULL, NULL, NULL,
    'the settings of ' || r.name || ' are not those of ' || l.name || ', which leads: '
        || coalesce((SELECT comma_list(DISTINCT substr(e.value, 1, place_in(e.value, ' ') - 1))
            FROM each_text(r.settings) e
            WHERE e.value NOT IN (SELECT f.value FROM each_text(o.settings) f)), 'another version'),
    'give all services the same settings', 'settings-differ', 0, NULL
FROM lease l JOIN replica o ON o.holder = l.holder
JOIN replica r ON r.settings <> o.settings
UNION ALL
SELECT 'failing', 'map', NULL, NULL, NULL,
    'the group map has a mistake; the former one stays in force', NULL, 'group-map-refused', at, NULL
FROM moment WHERE what = 'group-map-refused'
) found ORDER BY CASE WHEN state = 'held' THEN 0
    WHEN state IN ('pending', 'spared', 'withheld', 'by_hand') THEN 2 ELSE 1 END, since
LIMIT :limit

-- codes --
-- Which problems there are, by their codes.
SELECT 'restored' AS code FROM installation WHERE restored_tick IS NOT NULL
UNION ALL SELECT 'removals-held' WHERE EXISTS (SELECT 1 FROM membership
    WHERE brake = 'held' AND brake <> 'free' AND held_because = 'limit')
UNION ALL SELECT 'removal-waits' WHERE EXISTS (SELECT 1 FROM room_count c WHERE c.todo > 0
    AND NOT EXISTS (SELECT 1 FROM opening o JOIN mapping p ON p.id = o.mapping_id
        WHERE o.room_id = c.room_id AND o.standing = 'followed' AND p.standing = 'in_force')
    AND EXISTS (SELECT 1 FROM membership m JOIN account a ON a.id = m.account_id
        WHERE m.room_id = c.room_id AND m.todo IS NOT NULL AND m.state = 'revoked'
        AND m.brake = 'free' AND a.user_id IS NOT NULL AND a.problem IS DISTINCT FROM 'conflict'))
UNION ALL SELECT 'accounts-held' WHERE EXISTS (SELECT 1 FROM account
    WHERE brake = 'held' AND brake <> 'free' AND held_because = 'limit')
UNION ALL SELECT 'account-conflict' WHERE EXISTS (SELECT 1 FROM account
    WHERE problem IS NOT NULL AND problem = 'conflict')
UNION ALL SELECT 'account-failed' WHERE EXISTS (SELECT 1 FROM account
    WHERE problem IS NOT NULL AND problem IN ('refused', 'unavailable') AND todo IS NOT NULL)
UNION ALL SELECT 'action-refused' WHERE EXISTS (SELECT 1 FROM membership
    WHERE problem IS NOT NULL AND problem = 'refused' AND todo IS NOT NULL)
UNION ALL SELECT 'power-refused' WHERE EXISTS (SELECT 1 FROM membership
    WHERE problem IS NOT NULL AND problem = 'refused' AND todo IS NULL AND power_todo)
UNION ALL SELECT 'no-answer' WHERE EXISTS (SELECT 1 FROM membership
    WHERE problem IS NOT NULL AND problem = 'unavailable' AND (todo IS NOT NULL OR power_todo))
UNION ALL SELECT 'dry-run' WHERE EXISTS (SELECT 1 FROM membership
        WHERE problem IS NOT NULL AND problem = 'withheld')
    OR EXISTS (SELECT 1 FROM account WHERE problem IS NOT NULL AND problem = 'withheld')
UNION ALL SELECT 'spared' WHERE EXISTS (SELECT 1 FROM membership
        WHERE problem IS NOT NULL AND problem = 'spared' AND todo IS NOT NULL)
    OR EXISTS (SELECT 1 FROM account WHERE problem IS NOT NULL AND problem = 'spared')
UNION ALL SELECT DISTINCT CASE standing WHEN 'unresolved' THEN 'room-unresolved'
    WHEN 'waiting' THEN 'room-waits' ELSE 'alias-moved' END
    FROM room_reference r WHERE reason IS NOT NULL AND EXISTS (SELECT 1 FROM mapping m
        WHERE m.reference = r.reference AND m.standing <> 'dropped')
UNION ALL SELECT 'room-unusable' WHERE EXISTS (SELECT 1 FROM unusable_room)
UNION ALL SELECT 'upgrade-not-followed' WHERE EXISTS (SELECT 1 FROM unfollowed_upgrade)
UNION ALL SELECT 'child-not-followed' WHERE EXISTS (SELECT 1 FROM opening o
    JOIN mapping m ON m.id = o.mapping_id
    WHERE o.standing = 'not_followed' AND m.standing = 'in_force')
UNION ALL SELECT 'mapping-suspended' WHERE EXISTS (SELECT 1 FROM mapping
    WHERE standing = 'suspended')
UNION ALL SELECT 'group-map-refused' WHERE EXISTS (SELECT 1 FROM moment
    WHERE what = 'group-map-refused')
UNION ALL SELECT 'group-map-differs' WHERE EXISTS (SELECT 1 FROM lease l
    JOIN replica o ON o.holder = l.holder
    JOIN replica r ON r.map <> o.map)
UNION ALL SELECT 'settings-differ' WHERE EXISTS (SELECT 1 FROM lease l
    JOIN replica o ON o.holder = l.holder JOIN replica r ON r.settings <> o.settings)

-- pending_memberships --
-- What would be done in rooms, accounts that are to be made included.
SELECT m.*, coalesce(a.user_id, a.proposed) AS user_id
FROM membership m JOIN account a ON a.id = m.account_id
WHERE (m.todo IS NOT NULL OR m.power_todo) AND a.problem IS DISTINCT FROM 'conflict'
AND coalesce(a.user_id, a.proposed) IS NOT NULL
AND (m.todo IS DISTINCT FROM 'leave' OR a.user_id IS NOT NULL)
AND (m.state = 'pruned' OR m.brake = 'approved' OR EXISTS (SELECT 1 FROM opening o
    JOIN mapping p ON p.id = o.mapping_id WHERE o.room_id = m.room_id
    AND o.standing = 'followed' AND p.standing = 'in_force'))
ORDER BY m.room_id, m.todo <> 'leave', m.since DESC, user_id

-- pending_accounts --
-- What would be done to accounts.
SELECT coalesce(user_id, proposed) AS user, user_id IS NULL AS is_new, desired,
    locked_by_us OR suspended_by_us OR deactivated_by_us AS is_locked, request
FROM account WHERE todo IS NOT NULL AND problem IS DISTINCT FROM 'conflict'
AND (user_id IS NOT NULL OR desired = 'active' OR asked IS NOT NULL) ORDER BY 1 NULLS FIRST

-- progress --
-- How many accounts and memberships there are, and how many of them there is something to do for, in
-- rooms that the map opens: from numbers that are kept. An account in conflict waits for a human,
-- and so do its memberships; who is spared waits for the end of what protects them.
SELECT (SELECT count(*) FROM account WHERE todo IS NOT NULL) - (SELECT count(*) FROM account
        WHERE todo IS NOT NULL AND problem IS NOT NULL AND problem IN ('conflict', 'spared'))
        AS accounts_left,
    (SELECT count(*) FROM scim_user) AS accounts,
    coalesce(sum(c.todo), 0) - (SELECT count(*) FROM account a CROSS JOIN membership p
        WHERE a.problem IS NOT NULL AND a.problem = 'conflict' AND p.account_id = a.id
        AND p.todo IS NOT NULL AND EXISTS (SELECT 1 FROM opening o
            JOIN mapping m ON m.id = o.mapping_id WHERE o.room_id = p.room_id
            AND o.standing = 'followed' AND m.standing = 'in_force'))
    - (SELECT count(*) FROM membership p
        WHERE p.problem IS NOT NULL AND p.problem = 'spared' AND p.todo IS NOT NULL
        AND EXISTS (SELECT 1 FROM opening o
            JOIN mapping m ON m.id = o.mapping_id WHERE o.room_id = p.room_id
            AND o.standing = 'followed' AND m.standing = 'in_force')) AS memberships_left,
    coalesce(sum(c.memberships), 0) AS memberships
FROM room_count c WHERE EXISTS (SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id
    WHERE o.room_id = c.room_id AND o.standing = 'followed' AND m.standing = 'in_force')
