-- people_named --
-- People with some text in their user name, name, e-mail address or user ID, by indexes alone. As
-- many of each kind are looked for as are shown, so that a short text is no long search.
WITH found (id) AS (
    SELECT a.id FROM (SELECT id FROM scim_user
        WHERE instr(user_name_key, :words) > 0 ORDER BY user_name_key LIMIT :limit) u
        CROSS JOIN account a WHERE a.scim_id = u.id
    UNION SELECT a.id FROM (SELECT seq FROM scim_user
        WHERE instr(display_name_key, :words) > 0 ORDER BY display_name_key LIMIT :limit) d
        CROSS JOIN scim_user u CROSS JOIN account a WHERE u.seq = d.seq AND a.scim_id = u.id
    UNION SELECT a.id FROM (SELECT user_id FROM user_email
        WHERE instr(value_key, :words) > 0 LIMIT :limit) e
        CROSS JOIN account a WHERE a.scim_id = e.user_id
    UNION SELECT id FROM (SELECT id FROM account WHERE instr(user_id, :words) > 0 LIMIT :limit)
    UNION SELECT id FROM (SELECT id FROM account WHERE instr(proposed, :words) > 0 LIMIT :limit)
)
SELECT a.scim_id, a.user_id, coalesce(a.user_id, a.proposed) AS account,
    u.document ->> '$.userName' AS user_name, u.document ->> '$.displayName' AS display_name,
    CASE WHEN a.problem = 'conflict' THEN 'conflict' WHEN a.brake = 'held' THEN 'held'
        WHEN a.user_id IS NULL AND a.desired <> 'active' THEN 'no account'
        WHEN a.problem IS NOT NULL THEN a.problem
        WHEN a.todo IS NOT NULL THEN 'waiting' ELSE a.desired END AS state
FROM found f CROSS JOIN account a LEFT JOIN scim_user u ON u.id = a.scim_id
WHERE a.id = f.id ORDER BY u.user_name_key IS NULL, u.user_name_key, a.user_id LIMIT :limit

-- needing --
-- What a human may have to settle, the most first: alike are those of one problem, room and reason,
-- of whom one is named.
WITH one (code, room, reason, cure, who, since) AS (
    SELECT CASE m.held_because WHEN 'restored' THEN 'restored' ELSE 'removals-held' END,
        m.room_id, 'because of ' || m.group_name, NULL, a.user_id, m.since
    FROM membership m CROSS JOIN account a
    WHERE m.brake = 'held' AND m.brake <> 'free' AND a.id = m.account_id
    UNION ALL
    SELECT CASE held_because WHEN 'restored' THEN 'restored' ELSE 'accounts-held' END,
        NULL, NULL, NULL, user_id, since FROM account WHERE brake = 'held' AND brake <> 'free'
    UNION ALL
    SELECT CASE WHEN m.todo IS NULL THEN 'power-refused' ELSE 'action-refused' END,
        m.room_id, m.reason, NULL, coalesce(a.user_id, a.proposed), m.since
    FROM membership m CROSS JOIN account a
    WHERE m.problem IS NOT NULL AND m.problem = 'refused' AND (m.todo IS NOT NULL OR m.power_todo)
    AND a.id = m.account_id
    UNION ALL
    SELECT CASE problem WHEN 'conflict' THEN 'account-conflict' ELSE 'account-failed' END,
        NULL, reason, cure, coalesce(user_id, proposed, scim_id), since
    FROM account WHERE problem IS NOT NULL AND (problem = 'conflict'
        OR (problem IN ('refused', 'unavailable') AND todo IS NOT NULL))
    UNION ALL
    SELECT CASE r.standing WHEN 'unresolved' THEN 'room-unresolved' WHEN 'waiting'
            THEN 'room-waits' ELSE 'alias-moved' END, r.reference, r.reason, r.cure, NULL, NULL
    FROM room_reference r WHERE r.reason IS NOT NULL AND EXISTS (SELECT 1 FROM mapping m
        WHERE m.reference = r.reference AND m.standing <> 'dropped')
    UNION ALL
    SELECT 'room-unusable', room_id, unusable, NULL, NULL, NULL
    FROM room WHERE unusable IS NOT NULL
    UNION ALL
    SELECT 'upgrade-not-followed', room_id, reason, cure, NULL, NULL
    FROM room WHERE upgrade_to IS NOT NULL
    UNION ALL
    SELECT 'child-not-followed', o.room_id, o.reason, o.cure, NULL, NULL
    FROM opening o JOIN mapping m ON m.id = o.mapping_id
    WHERE o.standing = 'not_followed' AND m.standing = 'in_force'
    UNION ALL
    SELECT 'mapping-suspended', reference, reason, cure, made_by, NULL
    FROM mapping WHERE standing = 'suspended'
)
SELECT code, room, reason, cure, count(DISTINCT who) AS people, min(who) AS who,
    min(nullif(since, 0)) AS since
FROM one GROUP BY code, room, reason, cure ORDER BY people DESC, code, room LIMIT :limit
