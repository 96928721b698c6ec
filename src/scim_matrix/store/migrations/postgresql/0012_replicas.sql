-- What SQLite's migration of this number brings, where each table and column is explained.
CREATE FUNCTION seconds_now() RETURNS DOUBLE PRECISION
LANGUAGE sql VOLATILE AS 'SELECT extract(epoch FROM clock_timestamp())::double precision';
CREATE TABLE lease (
    holder TEXT,
    name TEXT,
    epoch BIGINT NOT NULL,
    ends DOUBLE PRECISION NOT NULL
);
INSERT INTO lease (epoch, ends) VALUES (0, 0);
CREATE TABLE replica (
    holder TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    map TEXT,
    seen_at DOUBLE PRECISION NOT NULL
);
CREATE TABLE console_session (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    begun DOUBLE PRECISION NOT NULL,
    used DOUBLE PRECISION NOT NULL
);
CREATE INDEX console_session_user ON console_session (user_id, used);
CREATE TABLE console_key (
    name TEXT PRIMARY KEY CHECK (name = 'cookies'),
    value TEXT NOT NULL
);
