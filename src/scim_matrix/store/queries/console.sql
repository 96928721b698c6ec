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
