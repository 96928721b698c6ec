-- What was done, refused or held, to whom and because of what: only appended to, pruned by age.
-- approved: a human let it through, so it says nothing about what is usual.
CREATE TABLE action (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    user_id TEXT,
    room_id TEXT,
    group_name TEXT,
    request TEXT,
    approved INTEGER NOT NULL DEFAULT 0,
    detail TEXT
);
CREATE INDEX action_room ON action (room_id, at);
CREATE INDEX action_user ON action (user_id, at);
CREATE INDEX action_at ON action (at);

-- held: the brake keeps it for a human to approve or dismiss. request: the SCIM request that
-- granted or revoked. forgotten: the map no longer names it; nobody is removed for that.
CREATE TABLE new_pair (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    granted INTEGER NOT NULL,
    group_name TEXT,
    membership TEXT,
    request TEXT,
    held INTEGER NOT NULL DEFAULT 0,
    approved INTEGER NOT NULL DEFAULT 0,
    forgotten INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    error TEXT,
    PRIMARY KEY (room_id, user_id)
) WITHOUT ROWID;
INSERT INTO new_pair (room_id, user_id, granted, group_name, membership, attempts, next_try, error)
SELECT room_id, user_id, granted, group_name, membership, attempts, next_try, error FROM pair;
DROP TABLE pair;
ALTER TABLE new_pair RENAME TO pair;
CREATE INDEX pair_user ON pair (user_id);
CREATE INDEX pair_work ON pair (room_id, next_try)
    WHERE NOT held AND NOT forgotten
    AND ((granted = 1 AND membership IS NOT 'join' AND membership IS NOT 'ban')
        OR (granted = 0 AND membership IS NOT 'leave' AND membership IS NOT 'ban'));
CREATE INDEX pair_held ON pair (room_id) WHERE held;

ALTER TABLE account ADD COLUMN request TEXT;
ALTER TABLE account ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN approved INTEGER NOT NULL DEFAULT 0;
DROP INDEX account_work;
CREATE INDEX account_work ON account (next_try) WHERE wanted IS NOT applied AND NOT held;
CREATE INDEX action_decision ON action (id) WHERE outcome IN ('approved', 'dismissed', 'asked');
