-- Every state has a name (docs/states.md). Times are seconds since the epoch; a tick is the number
-- of the transaction in which something last changed, which no clock can turn back.

CREATE TABLE tick (
    number INTEGER NOT NULL
);
INSERT INTO tick (number) VALUES (1);

-- What this database is: a copy of it put back later is told by the number (generation) that the
-- homeserver has seen; a new one has none, and one of an older version 0. restored_tick: the tick
-- up to which removals wait for the identity provider's word. seen_at: the time as the service that
-- runs on it last had it.
CREATE TABLE installation (
    id TEXT NOT NULL,
    generation INTEGER,
    restored_tick INTEGER,
    seen_at REAL
);
INSERT INTO installation (id, generation) VALUES (lower(hex(randomblob(16))),
    CASE WHEN EXISTS (SELECT 1 FROM account) OR EXISTS (SELECT 1 FROM pair) THEN 0 END);

ALTER TABLE action ADD COLUMN decided_by TEXT;

-- -- Accounts ---------------------------------------------------------------------------------

-- A Matrix account of a user. scim_id is NULL once the user is deleted, and for accounts that are
-- no user's and only leave exclusive rooms (unmanaged). user_id is NULL until it is known which
-- account is the user's; proposed is the user ID that one would be made with.
-- desired, profile: what it should be. confirmed, confirmed_profile: what it was last seen to be
-- (NULL: not known, as while a request is under way); without a user_id: that there is none.
-- locked_by_us and the like: where it is so, the service did it, and may undo it.
-- by_hand: what a hand did to an account that should be active. usable: it can be joined to rooms.
-- written: e-mails and links that the service wrote, and may take back. barred: the account that a
-- human said is not this user's, or is no more. problem: why nothing goes on, with reason and cure;
-- notice: what was left out. asked: since when (by the account system's clock) an account may have
-- been made for this user of which no answer is known. doing: what a request that disables it, and
-- whose outcome is not known, does. fit: what can be done with it in rooms: 0 nothing, as long as it
-- is not known or verified; 1 removals; 2 joins too. A number is given once only (AUTOINCREMENT): work goes on with
-- it while the account that it was begun for may end.
CREATE TABLE new_account (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scim_id TEXT UNIQUE,
    user_id TEXT UNIQUE,
    proposed TEXT,
    mark TEXT,
    bound_by TEXT CHECK (bound_by IN
        ('link', 'mark', 'made', 'record', 'adopted', 'human', 'migrated', 'observed')),
    subject TEXT,
    desired TEXT NOT NULL
        CHECK (desired IN ('active', 'disabled', 'deleted', 'expired', 'unmanaged')),
    profile TEXT NOT NULL,
    confirmed TEXT CHECK (confirmed IN ('active', 'disabled', 'deleted', 'expired')),
    confirmed_profile TEXT,
    locked_by_us BOOLEAN NOT NULL DEFAULT FALSE,
    suspended_by_us BOOLEAN NOT NULL DEFAULT FALSE,
    deactivated_by_us BOOLEAN NOT NULL DEFAULT FALSE,
    by_hand TEXT CHECK (by_hand IN ('locked', 'suspended', 'deactivated')),
    usable BOOLEAN NOT NULL DEFAULT FALSE,
    written TEXT NOT NULL DEFAULT '{"emails":[],"subjects":[]}',
    barred TEXT,
    expires REAL,
    brake TEXT NOT NULL DEFAULT 'free' CHECK (brake IN ('free', 'held', 'approved')),
    held_because TEXT CHECK (held_because IN ('limit', 'restored')),
    held_tick INTEGER,
    approved_by TEXT,
    problem TEXT CHECK (problem IN
        ('conflict', 'refused', 'unavailable', 'withheld', 'spared', 'dismissed')),
    reason TEXT,
    cure TEXT,
    notice TEXT,
    asked TEXT,
    doing TEXT CHECK (doing IN ('lock', 'suspend', 'deactivate', 'erase')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    tick INTEGER NOT NULL DEFAULT 0,
    since REAL NOT NULL DEFAULT 0,
    request TEXT,
    todo TEXT GENERATED ALWAYS AS (CASE
        WHEN bound_by IS NOT NULL AND bound_by = 'migrated' THEN 'verify'
        WHEN brake = 'held' OR desired = 'unmanaged' THEN NULL
        WHEN desired = 'active' THEN CASE
            WHEN confirmed IS DISTINCT FROM 'active'
                OR profile IS DISTINCT FROM confirmed_profile THEN 'provision' END
        WHEN confirmed IS DISTINCT FROM desired
            AND problem IS DISTINCT FROM 'dismissed' THEN 'disable' END) STORED,
    fit INTEGER GENERATED ALWAYS AS (CASE
        WHEN user_id IS NULL OR bound_by = 'migrated' THEN 0
        WHEN usable THEN 2 ELSE 1 END) STORED,
    CHECK ((user_id IS NULL) = (bound_by IS NULL)),
    CHECK (brake = 'free' OR desired <> 'active'),
    CHECK ((brake = 'held') = (held_because IS NOT NULL)),
    CHECK (expires IS NULL OR desired = 'deleted')
);
INSERT INTO new_account (scim_id, user_id, proposed, mark, bound_by, subject, desired, profile,
    locked_by_us, suspended_by_us, deactivated_by_us, usable, written, expires, brake,
    held_because, held_tick, problem, reason, next_try, since, request)
SELECT scim_id,
    CASE WHEN ready AND applied IS NOT NULL THEN user_id END,
    CASE WHEN NOT (ready AND applied IS NOT NULL) THEN user_id END,
    scim_id,
    CASE WHEN ready AND applied IS NOT NULL THEN 'migrated' END,
    wanted ->> 'subject',
    wanted ->> 'state',
    json_object('display_name', wanted ->> 'display_name',
        'emails', json(wanted -> 'emails'), 'subject', wanted ->> 'subject'),
    coalesce(applied ->> 'state', 'active') <> 'active',
    coalesce(applied ->> 'state', 'active') <> 'active',
    coalesce(applied ->> 'state', 'active') <> 'active',
    FALSE,
    json_object('emails', json(coalesce(applied -> 'emails', '[]')),
        'subjects', json(CASE WHEN applied ->> 'subject' IS NULL THEN '[]'
            ELSE json_array(applied ->> 'subject') END)),
    CASE WHEN wanted ->> 'state' = 'deleted' AND NOT dismissed THEN expires END,
    CASE WHEN held AND wanted ->> 'state' <> 'active' THEN 'held' ELSE 'free' END,
    CASE WHEN held AND wanted ->> 'state' <> 'active' THEN 'limit' END,
    CASE WHEN held AND wanted ->> 'state' <> 'active' THEN 1 END,
    CASE WHEN dismissed THEN 'dismissed' END,
    CASE WHEN dismissed THEN 'a human let the account be' END,
    0,
    CASE WHEN since > 2440587.5 THEN (since - 2440587.5) * 86400 ELSE 0 END,
    request
FROM (
    -- A human let it be, and the identity provider has said nothing new since.
    SELECT *, wanted ->> 'state' <> 'active' AND wanted = applied AND EXISTS (
        SELECT 1 FROM action x WHERE x.kind = 'disable' AND x.outcome = 'dismissed'
        AND x.user_id = account.user_id AND x.request IS account.request) AS dismissed
    FROM account
) WHERE scim_id IS NOT NULL OR (ready AND applied IS NOT NULL);
-- Who has to leave an exclusive room may have no account row yet. Not those of deleted users whose
-- account was never made: whoever has that name by now is somebody else.
INSERT INTO new_account (user_id, bound_by, desired, profile)
SELECT DISTINCT p.user_id, 'observed', 'unmanaged', '{}' FROM pair p
WHERE NOT EXISTS (SELECT 1 FROM account o WHERE o.user_id = p.user_id);
DROP TABLE account;
ALTER TABLE new_account RENAME TO account;
CREATE INDEX account_proposed ON account (proposed);
CREATE INDEX account_barred ON account (barred) WHERE barred IS NOT NULL;
CREATE INDEX account_subject ON account (subject);
CREATE INDEX account_mark ON account (mark);
CREATE INDEX account_todo ON account (next_try) WHERE todo IS NOT NULL;
CREATE INDEX account_turn ON account (since DESC) WHERE todo IS NOT NULL;
CREATE INDEX account_unmanaged ON account (id) WHERE desired = 'unmanaged';
CREATE INDEX account_expires ON account (expires) WHERE expires IS NOT NULL;
CREATE INDEX account_brake ON account (brake) WHERE brake <> 'free';
CREATE INDEX account_problem ON account (problem) WHERE problem IS NOT NULL;

-- Accounts that the homeserver seems to have made for users who have one (account_id), since they
-- signed in with a subject that no user has: what the last comparison of accounts found.
CREATE TABLE second_account (
    user_id TEXT PRIMARY KEY,
    account_id INTEGER NOT NULL,
    subject TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX second_account_account ON second_account (account_id);

-- -- The map ----------------------------------------------------------------------------------

-- One line of the map: a group (kind, pattern) opens a room as named (reference).
-- kind: external_id, display_name (pattern), everyone, group_id (SCIM id, from the console).
-- standing: in_force; overruled by the configuration; suspended: its maker may no longer do by
-- themselves what it does (reason, cure); dropped: the map says it no more. It opens nothing, and
-- what it gave and the identity provider takes is known for when the group opens a room of it again.
-- unsettled: those whom its last change reaches are not in the table of that name yet.
CREATE TABLE new_mapping (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    origin TEXT NOT NULL CHECK (origin IN ('configuration', 'console')),
    kind TEXT NOT NULL CHECK (kind IN ('external_id', 'display_name', 'everyone', 'group_id')),
    pattern TEXT NOT NULL,
    reference TEXT NOT NULL,
    power INTEGER,
    children BOOLEAN NOT NULL DEFAULT FALSE,
    invite BOOLEAN NOT NULL DEFAULT FALSE,
    exclusive BOOLEAN NOT NULL DEFAULT FALSE,
    made_by TEXT,
    made_at REAL,
    alias TEXT,
    standing TEXT NOT NULL DEFAULT 'in_force'
        CHECK (standing IN ('in_force', 'overruled', 'suspended', 'dropped')),
    reason TEXT,
    cure TEXT,
    unsettled BOOLEAN NOT NULL DEFAULT FALSE,
    CHECK ((origin = 'console') = (made_by IS NOT NULL)),
    UNIQUE (origin, kind, pattern, reference)
);
INSERT INTO new_mapping (origin, kind, pattern, reference, power, children, invite, exclusive)
SELECT 'configuration', m.kind, m.pattern, m.room_reference, m.power, m.children, m.invite,
    m.exclusive
FROM mapping m LEFT JOIN console_mapping c
    ON c.kind = m.kind AND c.pattern = m.pattern AND c.room_reference = m.room_reference
WHERE c.kind IS NULL;
-- A mapping made in the console means the room that it means now.
INSERT OR IGNORE INTO new_mapping (origin, kind, pattern, reference, power, children, invite,
    exclusive, made_by, made_at, alias)
SELECT 'console', c.kind, c.pattern, coalesce(r.room_id, c.room_reference), c.power, c.children,
    c.invite, c.exclusive, c.made_by, c.made_at,
    CASE WHEN c.room_reference LIKE '#%' THEN c.room_reference END
FROM console_mapping c LEFT JOIN room r ON r.reference = c.room_reference;

-- A room as the map names it. unresolved: not known yet; waiting: a human must let candidate in;
-- pinned: it stands for room_id, and for candidate only by its alias, which is not followed.
-- absent: the alias led nowhere when it was first asked for. led_by: those on whose own power it
-- rests that it stands for that room (as in opening). It outlasts the lines that name it.
CREATE TABLE room_reference (
    reference TEXT PRIMARY KEY,
    standing TEXT NOT NULL CHECK (standing IN ('unresolved', 'waiting', 'pinned')),
    room_id TEXT,
    candidate TEXT,
    absent BOOLEAN NOT NULL DEFAULT FALSE,
    led_by TEXT,
    template TEXT,
    reason TEXT,
    cure TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    CHECK ((standing = 'pinned') = (room_id IS NOT NULL)),
    CHECK (standing <> 'waiting' OR candidate IS NOT NULL)
) WITHOUT ROWID;
INSERT INTO room_reference (reference, standing, room_id, template)
SELECT reference, CASE WHEN room_id IS NULL THEN 'unresolved' ELSE 'pinned' END, room_id, template
FROM room WHERE reference IN (SELECT reference FROM new_mapping);
INSERT OR IGNORE INTO room_reference (reference, standing, room_id)
SELECT DISTINCT reference, 'pinned', reference FROM new_mapping WHERE reference LIKE '!%';
INSERT OR IGNORE INTO room_reference (reference, standing)
SELECT DISTINCT reference, 'unresolved' FROM new_mapping;

-- A room that the service knows. successor: what it was upgraded to, and is followed to.
-- unusable: why nothing can be done in it at present. upgrade_to, with reason and cure: an
-- upgrade that is not followed. compared_at: when it was last compared with the homeserver.
-- name, alias: what it calls itself, as last seen.
CREATE TABLE new_room (
    room_id TEXT PRIMARY KEY,
    successor TEXT,
    unusable TEXT,
    upgrade_to TEXT,
    reason TEXT,
    cure TEXT,
    compared_at REAL,
    name TEXT,
    alias TEXT
) WITHOUT ROWID;
INSERT INTO new_room (room_id, unusable)
SELECT room_id, max(error) FROM room WHERE room_id IS NOT NULL GROUP BY room_id;
INSERT OR IGNORE INTO new_room (room_id) SELECT DISTINCT room_id FROM pair;
-- A room ID stands for itself, or for what it was upgraded to.
INSERT INTO new_room (room_id, successor)
SELECT reference, room_id FROM room WHERE reference LIKE '!%' AND room_id <> reference
ON CONFLICT (room_id) DO UPDATE SET successor = excluded.successor;

-- Which rooms a mapping opens: its own and, of a space, those below it. Only what is followed
-- counts; a step that is not says why and what would mend it. via: the space that names it. led_by:
-- on whose own power following it rests (JSON list of user IDs, all of them; NULL: nobody's).
CREATE TABLE opening (
    mapping_id INTEGER NOT NULL REFERENCES new_mapping (id) ON DELETE CASCADE,
    room_id TEXT NOT NULL,
    via TEXT,
    standing TEXT NOT NULL CHECK (standing IN ('followed', 'not_followed')),
    reason TEXT,
    cure TEXT,
    led_by TEXT,
    PRIMARY KEY (mapping_id, room_id)
) WITHOUT ROWID;
CREATE INDEX opening_room ON opening (room_id);
INSERT INTO opening (mapping_id, room_id, standing, led_by)
SELECT m.id, r.room_id, 'followed', CASE WHEN m.made_by IS NOT NULL THEN json_array(m.made_by) END
FROM new_mapping m JOIN room_reference r ON r.reference = m.reference WHERE r.room_id IS NOT NULL;
INSERT OR IGNORE INTO opening (mapping_id, room_id, via, standing, led_by)
SELECT m.id, c.room_id, r.room_id, 'followed',
    CASE WHEN m.made_by IS NOT NULL THEN json_array(m.made_by) END
FROM new_mapping m JOIN room_reference r ON r.reference = m.reference
JOIN room old ON old.room_id = r.room_id JOIN room_child c ON c.reference = old.reference
WHERE m.children;
-- Whether the rooms below a mapping's space have ever been read: what was revoked before the
-- first reading counts there too.
ALTER TABLE new_mapping ADD COLUMN children_known BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE new_mapping SET children_known = TRUE
WHERE EXISTS (SELECT 1 FROM opening o WHERE o.mapping_id = new_mapping.id AND o.via IS NOT NULL);

-- What a mapping gives an account: granted, or revoked by the identity provider since. origin:
-- whether the identity provider or a change of the map gave it last. heard: when the identity
-- provider last said so again.
CREATE TABLE mapping_grant (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    mapping_id INTEGER NOT NULL REFERENCES new_mapping (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('granted', 'revoked')),
    origin TEXT NOT NULL CHECK (origin IN ('identity_provider', 'map')),
    group_name TEXT,
    request TEXT,
    tick INTEGER NOT NULL,
    heard INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, mapping_id)
) WITHOUT ROWID;
CREATE INDEX mapping_grant_mapping ON mapping_grant (mapping_id);
CREATE INDEX mapping_grant_heard ON mapping_grant (heard) WHERE heard > 0;

-- -- Memberships ------------------------------------------------------------------------------

-- An account in a room, as far as the service has to do with it.
-- state: granted by a mapped group; revoked by the identity provider; forgotten: the map no longer
-- grants it; dismissed: a human let them stay; pruned: a human asked for their removal; excluded:
-- nobody grants it in a room that is to hold nobody else.
-- observed: the Matrix membership last seen or reached (NULL: not known, as while a request is
-- under way). left_by_choice: they left by themselves, and that is respected.
-- brake: held for a human, or let through by one (for this one removal).
-- power: the level that is granted; power_given: the one that the service gave; power_before: the
-- one that was there (NULL: none of their own); power_tried: one whose outcome is not known.
-- led: only mappings that rest on somebody's own power (opening.led_by) granted it last.
-- fit: as of its account, kept by triggers. ready: there is something to do, and the account is fit
-- for it.
CREATE TABLE membership (
    room_id TEXT NOT NULL,
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN
        ('granted', 'revoked', 'forgotten', 'dismissed', 'pruned', 'excluded')),
    group_name TEXT,
    invite BOOLEAN NOT NULL DEFAULT FALSE,
    observed TEXT CHECK (observed IN ('join', 'invite', 'knock', 'leave', 'ban')),
    left_by_choice BOOLEAN NOT NULL DEFAULT FALSE,
    power INTEGER,
    power_given INTEGER,
    power_before INTEGER,
    power_tried INTEGER,
    led BOOLEAN NOT NULL DEFAULT FALSE,
    brake TEXT NOT NULL DEFAULT 'free' CHECK (brake IN ('free', 'held', 'approved')),
    held_because TEXT CHECK (held_because IN ('limit', 'restored')),
    held_tick INTEGER,
    approved_by TEXT,
    problem TEXT CHECK (problem IN ('refused', 'unavailable', 'withheld', 'spared')),
    reason TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    tick INTEGER NOT NULL DEFAULT 0,
    since REAL NOT NULL DEFAULT 0,
    request TEXT,
    fit INTEGER NOT NULL DEFAULT 0,
    todo TEXT GENERATED ALWAYS AS (CASE
        WHEN observed IS NOT DISTINCT FROM 'ban' OR brake = 'held' THEN NULL
        WHEN state = 'granted' THEN CASE
            WHEN observed IS NOT DISTINCT FROM 'join' OR left_by_choice THEN NULL
            WHEN NOT invite THEN 'join'
            WHEN observed IS DISTINCT FROM 'invite' THEN 'invite' END
        WHEN state IN ('revoked', 'pruned', 'excluded')
            AND observed IS DISTINCT FROM 'leave' THEN 'leave' END) STORED,
    power_todo BOOLEAN GENERATED ALWAYS AS (CASE
        WHEN brake = 'held' THEN FALSE
        WHEN power_tried IS NOT NULL THEN TRUE
        WHEN state = 'granted' THEN observed IS NOT DISTINCT FROM 'join'
            AND power IS DISTINCT FROM power_given
        WHEN state IN ('revoked', 'pruned', 'excluded') THEN power_given IS NOT NULL
            AND (observed IS NOT DISTINCT FROM 'leave' OR observed IS NOT DISTINCT FROM 'ban')
        ELSE FALSE END) STORED,
    ready BOOLEAN GENERATED ALWAYS AS (todo IS NOT NULL
        AND (fit = 2 OR (fit = 1 AND todo = 'leave'))) STORED,
    PRIMARY KEY (room_id, account_id),
    CHECK (brake = 'free' OR state IN ('revoked', 'pruned', 'excluded')),
    CHECK ((brake = 'held') = (held_because IS NOT NULL)),
    CHECK (NOT left_by_choice OR state IN ('granted', 'forgotten'))
) WITHOUT ROWID;
INSERT OR IGNORE INTO membership (room_id, account_id, state, group_name, invite, observed,
    left_by_choice, power, power_given, brake, held_because, held_tick, since, request)
SELECT p.room_id, a.id,
    CASE WHEN p.granted THEN 'granted'
        -- Of the same request: not one who was granted it since, and forgotten by the map.
        WHEN p.forgotten AND EXISTS (SELECT 1 FROM action x WHERE x.kind = 'kick'
            AND x.outcome = 'dismissed' AND x.room_id = p.room_id AND x.user_id = p.user_id
            AND x.request IS p.request) THEN 'dismissed'
        WHEN p.forgotten THEN 'forgotten'
        WHEN p.request = 'exclusive' AND p.group_name IS NULL THEN 'excluded'
        WHEN p.request = 'sync --prune' THEN 'pruned'
        ELSE 'revoked' END,
    p.group_name, p.invite,
    CASE WHEN a.user_id IS NULL THEN NULL WHEN p.membership = 'left' THEN 'leave'
        ELSE p.membership END,
    p.membership IS NOT DISTINCT FROM 'left' AND (p.granted OR (p.forgotten AND NOT EXISTS (
        SELECT 1 FROM action x WHERE x.kind = 'kick' AND x.outcome = 'dismissed'
        AND x.room_id = p.room_id AND x.user_id = p.user_id AND x.request IS p.request))),
    p.power, CASE WHEN a.user_id IS NOT NULL THEN p.power_set END,
    CASE WHEN p.held AND NOT p.granted AND NOT p.forgotten THEN 'held' ELSE 'free' END,
    CASE WHEN p.held AND NOT p.granted AND NOT p.forgotten THEN 'limit' END,
    CASE WHEN p.held AND NOT p.granted AND NOT p.forgotten THEN 1 END,
    CASE WHEN p.since > 2440587.5 THEN (p.since - 2440587.5) * 86400 ELSE 0 END,
    CASE WHEN p.request IN ('exclusive', 'sync --prune') THEN NULL ELSE p.request END
FROM pair p JOIN account a ON a.user_id = p.user_id OR a.proposed = p.user_id;
UPDATE membership SET fit = (SELECT a.fit FROM account a WHERE a.id = account_id);
CREATE INDEX membership_account ON membership (account_id);
CREATE INDEX membership_todo ON membership (room_id, next_try) WHERE todo IS NOT NULL;
CREATE INDEX membership_ready ON membership (room_id, next_try) WHERE ready;
CREATE INDEX membership_turn ON membership (room_id, todo <> 'leave', since DESC, account_id DESC)
    WHERE ready;
CREATE INDEX membership_rest ON membership (next_try) WHERE next_try > 0;
CREATE INDEX membership_pruned ON membership (room_id) WHERE state = 'pruned';
CREATE INDEX membership_excluded ON membership (room_id) WHERE state = 'excluded';
CREATE INDEX membership_led ON membership (room_id) WHERE led;
CREATE INDEX membership_power ON membership (room_id, next_try) WHERE power_todo;
CREATE INDEX membership_brake ON membership (room_id) WHERE brake <> 'free';
CREATE INDEX membership_problem ON membership (room_id) WHERE problem IS NOT NULL;

-- Who is in a mapped room though nothing that the service manages says so.
CREATE TABLE unmanaged_member (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (room_id, user_id)
) WITHOUT ROWID;
INSERT INTO unmanaged_member (room_id, user_id) SELECT room_id, user_id FROM stranger;

DROP TABLE stranger;
DROP TABLE pair;
DROP TABLE room_child;
DROP TABLE room;
DROP TABLE mapping;
DROP TABLE console_mapping;
ALTER TABLE new_mapping RENAME TO mapping;
ALTER TABLE new_room RENAME TO room;
CREATE INDEX mapping_reference ON mapping (reference);
CREATE INDEX mapping_pattern ON mapping (kind, pattern);
CREATE INDEX mapping_unsettled ON mapping (id) WHERE unsettled;

-- For whom it has not been worked out yet what a change of the map means. Until then nothing is
-- done for them in rooms.
CREATE TABLE unsettled (
    account_id INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE
);

CREATE INDEX room_reference_next ON room_reference (next_try) WHERE standing <> 'pinned';

-- -- What there is to do, as it changes --------------------------------------------------------

-- Rooms in which what there is to do may be other than before, numbered in the order in which that
-- was last so. What it is says a query (memberships.sql, work): this only says where to look again.
-- '': which rooms the map opens.
CREATE TABLE stirred (
    room_id TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX stirred_number ON stirred (number);

CREATE TRIGGER membership_fit AFTER INSERT ON membership
WHEN NEW.fit <> (SELECT a.fit FROM account a WHERE a.id = NEW.account_id)
BEGIN
    UPDATE membership SET fit = (SELECT a.fit FROM account a WHERE a.id = NEW.account_id)
    WHERE room_id = NEW.room_id AND account_id = NEW.account_id;
END;

CREATE TRIGGER membership_made AFTER INSERT ON membership
BEGIN
    INSERT INTO stirred (room_id, number)
    VALUES (NEW.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred))
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

CREATE TRIGGER membership_taken AFTER UPDATE OF account_id ON membership
BEGIN
    UPDATE membership SET fit = (SELECT a.fit FROM account a WHERE a.id = NEW.account_id)
    WHERE room_id = NEW.room_id AND account_id = NEW.account_id;
END;

CREATE TRIGGER membership_changed AFTER UPDATE ON membership
WHEN OLD.ready <> NEW.ready OR (OLD.todo IS NULL) <> (NEW.todo IS NULL)
    OR OLD.power_todo <> NEW.power_todo
    OR OLD.fit <> NEW.fit OR OLD.next_try <> NEW.next_try OR OLD.state <> NEW.state
    OR OLD.brake <> NEW.brake
BEGIN
    INSERT INTO stirred (room_id, number)
    VALUES (NEW.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred))
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

CREATE TRIGGER membership_ended AFTER DELETE ON membership
BEGIN
    INSERT INTO stirred (room_id, number)
    VALUES (OLD.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred))
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

CREATE TRIGGER account_fit AFTER UPDATE OF user_id, bound_by, usable ON account
WHEN OLD.fit <> NEW.fit
BEGIN
    UPDATE membership SET fit = NEW.fit WHERE account_id = NEW.id;
END;

CREATE TRIGGER account_settled AFTER DELETE ON unsettled
BEGIN
    INSERT INTO stirred (room_id, number)
    SELECT m.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred)
    FROM membership m WHERE m.account_id = OLD.account_id
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

CREATE TRIGGER opening_made AFTER INSERT ON opening
BEGIN
    INSERT INTO stirred (room_id, number)
    SELECT value, (SELECT coalesce(max(number), 0) + 1 FROM stirred)
    FROM json_each(json_array(NEW.room_id, '')) WHERE true
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

CREATE TRIGGER opening_changed AFTER UPDATE ON opening
WHEN OLD.standing <> NEW.standing
BEGIN
    INSERT INTO stirred (room_id, number)
    SELECT value, (SELECT coalesce(max(number), 0) + 1 FROM stirred)
    FROM json_each(json_array(NEW.room_id, '')) WHERE true
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

CREATE TRIGGER opening_ended AFTER DELETE ON opening
BEGIN
    INSERT INTO stirred (room_id, number)
    SELECT value, (SELECT coalesce(max(number), 0) + 1 FROM stirred)
    FROM json_each(json_array(OLD.room_id, '')) WHERE true
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

CREATE TRIGGER mapping_stands AFTER UPDATE OF standing ON mapping
WHEN OLD.standing <> NEW.standing
BEGIN
    INSERT INTO stirred (room_id, number)
    SELECT o.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred)
    FROM opening o WHERE o.mapping_id = NEW.id
    UNION ALL SELECT '', (SELECT coalesce(max(number), 0) + 1 FROM stirred) WHERE true
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

CREATE TRIGGER room_found AFTER INSERT ON room
BEGIN
    INSERT INTO stirred (room_id, number)
    VALUES (NEW.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred))
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

CREATE TRIGGER room_usable AFTER UPDATE OF unusable ON room
WHEN (OLD.unusable IS NULL) <> (NEW.unusable IS NULL)
BEGIN
    INSERT INTO stirred (room_id, number)
    VALUES (NEW.room_id, (SELECT coalesce(max(number), 0) + 1 FROM stirred))
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number;
END;

-- -- How far it is -----------------------------------------------------------------------------

-- How many memberships each room has, and how many of them there is something to do for (todo).
CREATE TABLE room_count (
    room_id TEXT PRIMARY KEY,
    memberships INTEGER NOT NULL,
    todo INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO room_count (room_id, memberships, todo)
SELECT room_id, count(*), count(todo) FROM membership GROUP BY room_id;

CREATE TRIGGER membership_counted AFTER INSERT ON membership
BEGIN
    INSERT INTO room_count (room_id, memberships, todo)
    VALUES (NEW.room_id, 1, NEW.todo IS NOT NULL)
    ON CONFLICT (room_id) DO UPDATE SET memberships = memberships + 1, todo = todo + excluded.todo;
END;

CREATE TRIGGER membership_recounted AFTER UPDATE ON membership
WHEN (OLD.todo IS NULL) <> (NEW.todo IS NULL)
BEGIN
    UPDATE room_count SET todo = todo + CASE WHEN NEW.todo IS NULL THEN -1 ELSE 1 END
    WHERE room_id = NEW.room_id;
END;

CREATE TRIGGER membership_uncounted AFTER DELETE ON membership
BEGIN
    UPDATE room_count SET memberships = memberships - 1,
        todo = todo - CASE WHEN OLD.todo IS NULL THEN 0 ELSE 1 END
    WHERE room_id = OLD.room_id;
END;
