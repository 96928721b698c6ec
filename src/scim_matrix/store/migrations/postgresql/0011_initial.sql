-- The schema of SQLite's migrations 0001 to 0011, in which each table and column is explained.
-- For a database of encoding UTF8 and collation C, so that text is sorted by code point.

CREATE TABLE schema_version (
    number BIGINT NOT NULL
);
INSERT INTO schema_version (number) VALUES (0);

-- -- Functions that statements name (store/dialect.py) ---

CREATE FUNCTION each_text(list TEXT) RETURNS TABLE (value TEXT)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT jsonb_array_elements_text(list::jsonb)';
CREATE FUNCTION each_number(list TEXT) RETURNS TABLE (value BIGINT)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    'SELECT e.v::bigint FROM jsonb_array_elements_text(list::jsonb) e(v)';
-- key: the place in the list; value: an entry; atom: an entry that is no object or list, as text.
CREATE FUNCTION each_entry(document JSON, path TEXT DEFAULT '$') RETURNS TABLE (key BIGINT, value JSON, atom TEXT)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT e.n - 1, e.v::json,
        CASE WHEN jsonb_typeof(e.v) NOT IN ('object', 'array') THEN e.v #>> '{}' END
    FROM jsonb_array_elements(CASE jsonb_typeof(
            jsonb_path_query_first(document::jsonb, path::jsonpath)) WHEN 'array'
        THEN jsonb_path_query_first(document::jsonb, path::jsonpath) ELSE '[]' END)
        WITH ORDINALITY e(v, n) $$;
CREATE FUNCTION each_entry(list TEXT) RETURNS TABLE (key BIGINT, value JSON, atom TEXT)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT * FROM each_entry(list::json)';
-- Every value that is no object or list, however deep.
CREATE FUNCTION each_value(document JSON, path TEXT DEFAULT '$') RETURNS TABLE (atom TEXT)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT v #>> '{}' FROM jsonb_path_query(document::jsonb, (path || '.**')::jsonpath) v
    WHERE jsonb_typeof(v) NOT IN ('object', 'array') $$;
CREATE FUNCTION text_at(document JSON, path TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT jsonb_path_query_first(document::jsonb, path::jsonpath) #>> '{}' $$;
CREATE FUNCTION text_at(document TEXT, path TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT jsonb_path_query_first(document::jsonb, path::jsonpath) #>> '{}' $$;
CREATE FUNCTION without_nulls(document JSON) RETURNS JSON
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT json_strip_nulls(document)';
CREATE FUNCTION place_in(whole TEXT, part TEXT) RETURNS INTEGER
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT strpos(whole, part)';
-- As SQLite's GLOB: * any text, ? one character, [...] one of a set, [^...] none of it; nothing
-- escapes, and a set that is never closed matches nothing.
CREATE FUNCTION literal(sign TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT '\U' || lpad(to_hex(ascii(sign)), 8, '0') $$;
CREATE FUNCTION expression_of(pattern TEXT) RETURNS TEXT
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    whole TEXT := '';
    place INTEGER := 1;
    start INTEGER;
    sign TEXT;
    following TEXT;
    items TEXT;
    prior TEXT;
    inverted BOOLEAN;
BEGIN
    WHILE place <= length(pattern) LOOP
        sign := substr(pattern, place, 1);
        place := place + 1;
        IF sign = '*' THEN whole := whole || '.*';
        ELSIF sign = '?' THEN whole := whole || '.';
        ELSIF sign <> '[' THEN whole := whole || literal(sign);
        ELSE
            inverted := substr(pattern, place, 1) = '^';
            IF inverted THEN place := place + 1; END IF;
            items := '';
            prior := '';
            start := place;
            LOOP
                IF place > length(pattern) THEN RETURN '(?!)'; END IF;
                sign := substr(pattern, place, 1);
                EXIT WHEN sign = ']' AND place > start;
                following := substr(pattern, place + 1, 1);
                IF sign = '-' AND prior <> '' AND following NOT IN ('', ']') THEN
                    IF prior <= following THEN
                        items := items || literal(prior) || '-' || literal(following);
                    END IF;
                    prior := '';
                    place := place + 2;
                ELSE
                    items := items || literal(sign);
                    prior := sign;
                    place := place + 1;
                END IF;
            END LOOP;
            place := place + 1;
            whole := whole || CASE WHEN items <> ''
                THEN '[' || CASE WHEN inverted THEN '^' ELSE '' END || items || ']'
                WHEN inverted THEN '.' ELSE '(?!)' END;
        END IF;
    END LOOP;
    RETURN '^(?:' || whole || ')$';
END $$;
CREATE FUNCTION matches(pattern TEXT, whole TEXT) RETURNS BOOLEAN
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT whole ~ expression_of(pattern)';
CREATE FUNCTION comma_append(TEXT, TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE WHEN $1 IS NULL THEN $2 WHEN $2 IS NULL THEN $1 ELSE $1 || ',' || $2 END $$;
CREATE AGGREGATE comma_list(TEXT) (SFUNC = comma_append, STYPE = TEXT);
-- list_of, object_of: json_agg, json_build_object (variadic "any": renamed by the driver).
-- As Python's: normalised, lower case by Unicode's full mapping (ICU has final sigma and dotted I).
CREATE FUNCTION composed(whole TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT normalize(whole, NFC)';
CREATE FUNCTION folded(whole TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    'SELECT normalize(lower(normalize(whole, NFC) COLLATE "und-x-icu"), NFC)';

-- -- Tables ---

CREATE TABLE scim_user (
    seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    user_name_key TEXT NOT NULL UNIQUE,
    external_id TEXT,
    active BOOLEAN NOT NULL,
    display_name_key TEXT,
    document JSON NOT NULL,
    created TEXT NOT NULL,
    last_modified TEXT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1
);
CREATE TABLE scim_group (
    seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    external_id TEXT UNIQUE,
    display_name TEXT NOT NULL,
    display_name_key TEXT NOT NULL,
    document JSON NOT NULL,
    created TEXT NOT NULL,
    last_modified TEXT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1
);
CREATE TABLE group_member (
    group_id TEXT NOT NULL REFERENCES scim_group (id) ON DELETE CASCADE,
    value TEXT NOT NULL,
    display TEXT,
    PRIMARY KEY (group_id, value)
);
CREATE TABLE user_email (
    value_key TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES scim_user (id) ON DELETE CASCADE,
    PRIMARY KEY (value_key, user_id)
);
CREATE TABLE action (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    at DOUBLE PRECISION NOT NULL,
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    user_id TEXT,
    room_id TEXT,
    group_name TEXT,
    request TEXT,
    approved BOOLEAN NOT NULL DEFAULT FALSE,
    detail TEXT,
    decided_by TEXT
);
CREATE TABLE action_count (
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (kind, outcome)
);
CREATE TABLE moment (
    what TEXT PRIMARY KEY,
    at DOUBLE PRECISION NOT NULL
);
CREATE TABLE tick (
    number BIGINT NOT NULL
);
CREATE TABLE installation (
    id TEXT NOT NULL,
    generation BIGINT,
    restored_tick BIGINT,
    seen_at DOUBLE PRECISION
);
CREATE TABLE account (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
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
    expires DOUBLE PRECISION,
    brake TEXT NOT NULL DEFAULT 'free' CHECK (brake IN ('free', 'held', 'approved')),
    held_because TEXT CHECK (held_because IN ('limit', 'restored')),
    held_tick BIGINT,
    approved_by TEXT,
    problem TEXT CHECK (problem IN
        ('conflict', 'refused', 'unavailable', 'withheld', 'spared', 'dismissed')),
    reason TEXT,
    cure TEXT,
    notice TEXT,
    asked TEXT,
    doing TEXT CHECK (doing IN ('lock', 'suspend', 'deactivate', 'erase')),
    attempts BIGINT NOT NULL DEFAULT 0,
    next_try DOUBLE PRECISION NOT NULL DEFAULT 0,
    tick BIGINT NOT NULL DEFAULT 0,
    since DOUBLE PRECISION NOT NULL DEFAULT 0,
    request TEXT,
    todo TEXT GENERATED ALWAYS AS (CASE
        WHEN bound_by IS NOT NULL AND bound_by = 'migrated' THEN 'verify'
        WHEN brake = 'held' OR desired = 'unmanaged' THEN NULL
        WHEN desired = 'active' THEN CASE
            WHEN confirmed IS DISTINCT FROM 'active'
                OR profile IS DISTINCT FROM confirmed_profile THEN 'provision' END
        WHEN confirmed IS DISTINCT FROM desired
            AND problem IS DISTINCT FROM 'dismissed' THEN 'disable' END) STORED,
    fit BIGINT GENERATED ALWAYS AS (CASE
        WHEN user_id IS NULL OR bound_by = 'migrated' THEN 0
        WHEN usable THEN 2 ELSE 1 END) STORED,
    searched DOUBLE PRECISION,
    CHECK ((user_id IS NULL) = (bound_by IS NULL)),
    CHECK (brake = 'free' OR desired <> 'active'),
    CHECK ((brake = 'held') = (held_because IS NOT NULL)),
    CHECK (expires IS NULL OR desired = 'deleted')
);
CREATE TABLE second_account (
    user_id TEXT PRIMARY KEY,
    account_id BIGINT NOT NULL,
    subject TEXT NOT NULL
);
CREATE TABLE mapping (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    origin TEXT NOT NULL CHECK (origin IN ('configuration', 'console')),
    kind TEXT NOT NULL CHECK (kind IN ('external_id', 'display_name', 'everyone', 'group_id')),
    pattern TEXT NOT NULL,
    reference TEXT NOT NULL,
    power BIGINT,
    children BOOLEAN NOT NULL DEFAULT FALSE,
    invite BOOLEAN NOT NULL DEFAULT FALSE,
    exclusive BOOLEAN NOT NULL DEFAULT FALSE,
    made_by TEXT,
    made_at DOUBLE PRECISION,
    alias TEXT,
    standing TEXT NOT NULL DEFAULT 'in_force'
        CHECK (standing IN ('in_force', 'overruled', 'suspended', 'dropped')),
    reason TEXT,
    cure TEXT,
    unsettled BOOLEAN NOT NULL DEFAULT FALSE,
    children_known BOOLEAN NOT NULL DEFAULT FALSE,
    CHECK ((origin = 'console') = (made_by IS NOT NULL)),
    UNIQUE (origin, kind, pattern, reference)
);
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
    attempts BIGINT NOT NULL DEFAULT 0,
    next_try DOUBLE PRECISION NOT NULL DEFAULT 0,
    CHECK ((standing = 'pinned') = (room_id IS NOT NULL)),
    CHECK (standing <> 'waiting' OR candidate IS NOT NULL)
);
CREATE TABLE room (
    room_id TEXT PRIMARY KEY,
    successor TEXT,
    unusable TEXT,
    upgrade_to TEXT,
    reason TEXT,
    cure TEXT,
    compared_at DOUBLE PRECISION,
    name TEXT,
    alias TEXT
);
CREATE TABLE opening (
    mapping_id BIGINT NOT NULL REFERENCES mapping (id) ON DELETE CASCADE,
    room_id TEXT NOT NULL,
    via TEXT,
    standing TEXT NOT NULL CHECK (standing IN ('followed', 'not_followed')),
    reason TEXT,
    cure TEXT,
    led_by TEXT,
    PRIMARY KEY (mapping_id, room_id)
);
CREATE TABLE mapping_grant (
    account_id BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    mapping_id BIGINT NOT NULL REFERENCES mapping (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('granted', 'revoked')),
    origin TEXT NOT NULL CHECK (origin IN ('identity_provider', 'map')),
    group_name TEXT,
    request TEXT,
    tick BIGINT NOT NULL,
    heard BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, mapping_id)
);
CREATE TABLE membership (
    room_id TEXT NOT NULL,
    account_id BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN
        ('granted', 'revoked', 'forgotten', 'dismissed', 'pruned', 'excluded')),
    group_name TEXT,
    invite BOOLEAN NOT NULL DEFAULT FALSE,
    observed TEXT CHECK (observed IN ('join', 'invite', 'knock', 'leave', 'ban')),
    left_by_choice BOOLEAN NOT NULL DEFAULT FALSE,
    power BIGINT,
    power_given BIGINT,
    power_before BIGINT,
    power_tried BIGINT,
    led BOOLEAN NOT NULL DEFAULT FALSE,
    brake TEXT NOT NULL DEFAULT 'free' CHECK (brake IN ('free', 'held', 'approved')),
    held_because TEXT CHECK (held_because IN ('limit', 'restored')),
    held_tick BIGINT,
    approved_by TEXT,
    problem TEXT CHECK (problem IN ('refused', 'unavailable', 'withheld', 'spared')),
    reason TEXT,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_try DOUBLE PRECISION NOT NULL DEFAULT 0,
    tick BIGINT NOT NULL DEFAULT 0,
    since DOUBLE PRECISION NOT NULL DEFAULT 0,
    request TEXT,
    fit BIGINT NOT NULL DEFAULT 0,
    leaving BOOLEAN NOT NULL DEFAULT FALSE,
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
    -- A generated column may name no other one: todo, written out.
    ready BOOLEAN GENERATED ALWAYS AS (((CASE
        WHEN observed IS NOT DISTINCT FROM 'ban' OR brake = 'held' THEN NULL
        WHEN state = 'granted' THEN CASE
            WHEN observed IS NOT DISTINCT FROM 'join' OR left_by_choice THEN NULL
            WHEN NOT invite THEN 'join'
            WHEN observed IS DISTINCT FROM 'invite' THEN 'invite' END
        WHEN state IN ('revoked', 'pruned', 'excluded')
            AND observed IS DISTINCT FROM 'leave' THEN 'leave' END)) IS NOT NULL
        AND (fit = 2 OR (fit = 1 AND ((CASE
        WHEN observed IS NOT DISTINCT FROM 'ban' OR brake = 'held' THEN NULL
        WHEN state = 'granted' THEN CASE
            WHEN observed IS NOT DISTINCT FROM 'join' OR left_by_choice THEN NULL
            WHEN NOT invite THEN 'join'
            WHEN observed IS DISTINCT FROM 'invite' THEN 'invite' END
        WHEN state IN ('revoked', 'pruned', 'excluded')
            AND observed IS DISTINCT FROM 'leave' THEN 'leave' END)) = 'leave'))) STORED,
    PRIMARY KEY (room_id, account_id),
    CHECK (brake = 'free' OR state IN ('revoked', 'pruned', 'excluded')),
    CHECK ((brake = 'held') = (held_because IS NOT NULL)),
    CHECK (NOT left_by_choice OR state IN ('granted', 'forgotten'))
);
CREATE TABLE unmanaged_member (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (room_id, user_id)
);
CREATE TABLE unsettled (
    account_id BIGINT PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE
);
CREATE TABLE stirred (
    room_id TEXT PRIMARY KEY,
    number BIGINT NOT NULL
);
CREATE TABLE room_count (
    room_id TEXT PRIMARY KEY,
    memberships BIGINT NOT NULL,
    todo BIGINT NOT NULL
);
CREATE INDEX scim_user_external_id ON scim_user (external_id);
CREATE INDEX scim_group_display_name ON scim_group (display_name_key);
CREATE INDEX group_member_value ON group_member (value);
CREATE INDEX scim_user_display_name ON scim_user (display_name_key);
CREATE INDEX scim_user_last_modified ON scim_user (last_modified);
CREATE INDEX scim_group_last_modified ON scim_group (last_modified);
CREATE INDEX user_email_user ON user_email (user_id);
CREATE INDEX action_room ON action (room_id, at);
CREATE INDEX action_user ON action (user_id, at);
CREATE INDEX action_at ON action (at);
CREATE INDEX action_decision ON action (id) WHERE outcome IN ('approved', 'dismissed', 'asked');
CREATE INDEX account_proposed ON account (proposed);
CREATE INDEX account_barred ON account (barred) WHERE barred IS NOT NULL;
CREATE INDEX account_subject ON account (subject);
CREATE INDEX account_mark ON account (mark);
CREATE INDEX account_unmanaged ON account (id) WHERE desired = 'unmanaged';
CREATE INDEX account_expires ON account (expires) WHERE expires IS NOT NULL;
CREATE INDEX account_brake ON account (brake) WHERE brake <> 'free';
CREATE INDEX account_problem ON account (problem) WHERE problem IS NOT NULL;
CREATE INDEX second_account_account ON second_account (account_id);
CREATE INDEX opening_room ON opening (room_id);
CREATE INDEX mapping_grant_mapping ON mapping_grant (mapping_id);
CREATE INDEX mapping_grant_heard ON mapping_grant (heard) WHERE heard > 0;
CREATE INDEX membership_account ON membership (account_id);
CREATE INDEX membership_todo ON membership (room_id, next_try) WHERE todo IS NOT NULL;
CREATE INDEX membership_ready ON membership (room_id, next_try) WHERE ready;
CREATE INDEX membership_turn ON membership (room_id, (todo <> 'leave'), since DESC, account_id DESC)
    WHERE ready;
CREATE INDEX membership_rest ON membership (next_try) WHERE next_try > 0;
CREATE INDEX membership_pruned ON membership (room_id) WHERE state = 'pruned';
CREATE INDEX membership_excluded ON membership (room_id) WHERE state = 'excluded';
CREATE INDEX membership_led ON membership (room_id) WHERE led;
CREATE INDEX membership_power ON membership (room_id, next_try) WHERE power_todo;
-- Where hardly any is so, the planner would rather read them all than those of an account.
CREATE INDEX membership_former ON membership (account_id) WHERE state <> 'granted';
CREATE INDEX membership_brake ON membership (room_id) WHERE brake <> 'free';
CREATE INDEX membership_problem ON membership (room_id) WHERE problem IS NOT NULL;
CREATE INDEX mapping_reference ON mapping (reference);
CREATE INDEX mapping_pattern ON mapping (kind, pattern);
CREATE INDEX mapping_unsettled ON mapping (id) WHERE unsettled;
CREATE INDEX room_reference_next ON room_reference (next_try) WHERE standing <> 'pinned';
CREATE INDEX stirred_number ON stirred (number);
CREATE INDEX account_turn ON account (next_try, since DESC) WHERE todo IS NOT NULL;
CREATE INDEX account_disabling ON account (next_try, since DESC)
    WHERE todo IS NOT NULL AND todo = 'disable';
CREATE INDEX room_reference_room ON room_reference (room_id) WHERE room_id IS NOT NULL;
CREATE INDEX scim_user_inactive ON scim_user (id) WHERE NOT active;


INSERT INTO tick (number) VALUES (1);
INSERT INTO installation (id) VALUES (replace(gen_random_uuid()::text, '-', ''));

-- -- Triggers, row by row ---

CREATE FUNCTION user_email_of() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (OLD.document -> 'emails')::text IS NOT DISTINCT FROM (NEW.document -> 'emails')::text
        THEN RETURN NULL; END IF;
        DELETE FROM user_email WHERE user_id = NEW.id;
    END IF;
    INSERT INTO user_email (value_key, user_id)
    SELECT folded(e.value ->> 'value'), NEW.id FROM each_entry(NEW.document, '$.emails') e
    WHERE e.value ->> 'value' IS NOT NULL ON CONFLICT DO NOTHING;
    RETURN NULL; END $$;
CREATE TRIGGER user_email_of_new AFTER INSERT ON scim_user FOR EACH ROW EXECUTE FUNCTION user_email_of();
CREATE TRIGGER user_email_of_changed AFTER UPDATE OF document ON scim_user FOR EACH ROW EXECUTE FUNCTION user_email_of();

CREATE FUNCTION count_action() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO action_count (kind, outcome, number) VALUES (NEW.kind, NEW.outcome, 1)
    ON CONFLICT (kind, outcome) DO UPDATE SET number = action_count.number + 1;
    RETURN NULL; END $$;
CREATE TRIGGER action_counted AFTER INSERT ON action FOR EACH ROW EXECUTE FUNCTION count_action();

CREATE FUNCTION stir(place TEXT) RETURNS void LANGUAGE sql AS $$
    INSERT INTO stirred (room_id, number)
    VALUES (place, (SELECT coalesce(max(number), 0) + 1 FROM stirred))
    ON CONFLICT (room_id) DO UPDATE SET number = excluded.number $$;

-- BEFORE, so that fit is right in the row itself (SQLite corrects it by a second UPDATE).
CREATE FUNCTION membership_fit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    NEW.fit := (SELECT a.fit FROM account a WHERE a.id = NEW.account_id); RETURN NEW; END $$;
CREATE TRIGGER membership_fit BEFORE INSERT ON membership FOR EACH ROW EXECUTE FUNCTION membership_fit();
CREATE TRIGGER membership_taken BEFORE UPDATE OF account_id ON membership FOR EACH ROW EXECUTE FUNCTION membership_fit();

CREATE FUNCTION membership_noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM stir(NEW.room_id);
        INSERT INTO room_count (room_id, memberships, todo)
        VALUES (NEW.room_id, 1, CASE WHEN NEW.todo IS NULL THEN 0 ELSE 1 END)
        ON CONFLICT (room_id) DO UPDATE SET memberships = room_count.memberships + 1,
            todo = room_count.todo + excluded.todo;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM stir(OLD.room_id);
        UPDATE room_count SET memberships = memberships - 1,
            todo = todo - CASE WHEN OLD.todo IS NULL THEN 0 ELSE 1 END
        WHERE room_id = OLD.room_id;
    ELSE
        IF OLD.ready <> NEW.ready OR (OLD.todo IS NULL) <> (NEW.todo IS NULL)
            OR OLD.power_todo <> NEW.power_todo OR OLD.fit <> NEW.fit
            OR OLD.next_try <> NEW.next_try OR OLD.state <> NEW.state OR OLD.brake <> NEW.brake
        THEN PERFORM stir(NEW.room_id); END IF;
        IF (OLD.todo IS NULL) <> (NEW.todo IS NULL) THEN
            UPDATE room_count SET todo = todo + CASE WHEN NEW.todo IS NULL THEN -1 ELSE 1 END
            WHERE room_id = NEW.room_id;
        END IF;
    END IF;
    RETURN NULL; END $$;
CREATE TRIGGER membership_noted AFTER INSERT OR UPDATE OR DELETE ON membership
FOR EACH ROW EXECUTE FUNCTION membership_noted();

CREATE FUNCTION account_fit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF OLD.fit <> NEW.fit THEN UPDATE membership SET fit = NEW.fit WHERE account_id = NEW.id; END IF;
    RETURN NULL; END $$;
CREATE TRIGGER account_fit AFTER UPDATE OF user_id, bound_by, usable ON account
FOR EACH ROW EXECUTE FUNCTION account_fit();

CREATE FUNCTION account_settled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM stir(m.room_id) FROM membership m WHERE m.account_id = OLD.account_id; RETURN NULL; END $$;
CREATE TRIGGER account_settled AFTER DELETE ON unsettled FOR EACH ROW EXECUTE FUNCTION account_settled();

CREATE FUNCTION opening_noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'UPDATE' THEN IF OLD.standing = NEW.standing THEN RETURN NULL; END IF; END IF;
    PERFORM stir(CASE WHEN TG_OP = 'DELETE' THEN OLD.room_id ELSE NEW.room_id END);
    PERFORM stir(''); RETURN NULL; END $$;
CREATE TRIGGER opening_noted AFTER INSERT OR UPDATE OR DELETE ON opening
FOR EACH ROW EXECUTE FUNCTION opening_noted();

CREATE FUNCTION mapping_stands() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF OLD.standing <> NEW.standing THEN
        PERFORM stir(o.room_id) FROM opening o WHERE o.mapping_id = NEW.id; PERFORM stir('');
    END IF; RETURN NULL; END $$;
CREATE TRIGGER mapping_stands AFTER UPDATE OF standing ON mapping FOR EACH ROW EXECUTE FUNCTION mapping_stands();

CREATE FUNCTION room_noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (OLD.unusable IS NULL) = (NEW.unusable IS NULL) THEN RETURN NULL; END IF;
    END IF;
    PERFORM stir(NEW.room_id); RETURN NULL; END $$;
CREATE TRIGGER room_found AFTER INSERT ON room FOR EACH ROW EXECUTE FUNCTION room_noted();
CREATE TRIGGER room_usable AFTER UPDATE OF unusable ON room FOR EACH ROW EXECUTE FUNCTION room_noted();
