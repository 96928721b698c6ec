-- What the identity provider wants: SCIM resources and group members.

CREATE TABLE scim_user (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    user_name_key TEXT NOT NULL UNIQUE,
    external_id TEXT,
    active INTEGER NOT NULL,
    display_name_key TEXT,
    document TEXT NOT NULL,
    created TEXT NOT NULL,
    last_modified TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX scim_user_external_id ON scim_user (external_id);

CREATE TABLE scim_group (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    external_id TEXT UNIQUE,
    display_name TEXT NOT NULL,
    display_name_key TEXT NOT NULL,
    document TEXT NOT NULL,
    created TEXT NOT NULL,
    last_modified TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX scim_group_display_name ON scim_group (display_name_key);

-- A member may point at a user or group that does not exist yet; it takes effect once it does.
CREATE TABLE group_member (
    group_id TEXT NOT NULL REFERENCES scim_group (id) ON DELETE CASCADE,
    value TEXT NOT NULL,
    display TEXT,
    PRIMARY KEY (group_id, value)
) WITHOUT ROWID;
CREATE INDEX group_member_value ON group_member (value);

-- The group map in force. kind: external_id, display_name (GLOB pattern) or everyone.
CREATE TABLE mapping (
    kind TEXT NOT NULL,
    pattern TEXT NOT NULL,
    room_reference TEXT NOT NULL,
    PRIMARY KEY (kind, pattern, room_reference)
) WITHOUT ROWID;

-- A room as the map names it (alias or room ID), and the room ID it stands for once resolved.
CREATE TABLE room (
    reference TEXT PRIMARY KEY,
    room_id TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    error TEXT
) WITHOUT ROWID;

-- A Matrix account of a user. wanted and applied are the same JSON shape; their difference is
-- the work left. scim_id is NULL once the user is deleted; the row stays for the user to return.
CREATE TABLE account (
    user_id TEXT PRIMARY KEY,
    scim_id TEXT UNIQUE,
    subject TEXT,
    wanted TEXT NOT NULL,
    applied TEXT,
    ready INTEGER NOT NULL DEFAULT 0,
    is_protected INTEGER NOT NULL DEFAULT 0,
    expires REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    error TEXT
) WITHOUT ROWID;
CREATE INDEX account_subject ON account (subject);
CREATE INDEX account_work ON account (next_try) WHERE wanted IS NOT applied;
CREATE INDEX account_expires ON account (expires) WHERE expires IS NOT NULL;

-- A managed (account, room) pair: granted says what is desired, membership what was last
-- applied or observed (NULL: not known).
CREATE TABLE pair (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES account (user_id) ON UPDATE CASCADE ON DELETE CASCADE,
    granted INTEGER NOT NULL,
    group_name TEXT,
    membership TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    error TEXT,
    PRIMARY KEY (room_id, user_id)
) WITHOUT ROWID;
CREATE INDEX pair_user ON pair (user_id);
CREATE INDEX pair_work ON pair (room_id, next_try)
    WHERE (granted = 1 AND membership IS NOT 'join' AND membership IS NOT 'ban')
       OR (granted = 0 AND membership IS NOT 'leave' AND membership IS NOT 'ban');

-- The groups through which each active user's account is granted each room, by every path of
-- nested groups. Filtered by scim_id it walks up from that user alone.
CREATE VIEW mapped_group AS
SELECT g.id AS group_id, g.display_name, r.room_id
FROM mapping m
JOIN room r ON r.reference = m.room_reference AND r.room_id IS NOT NULL
JOIN scim_group g
  ON (m.kind = 'external_id' AND g.external_id = m.pattern)
  OR (m.kind = 'display_name' AND g.display_name GLOB m.pattern);
