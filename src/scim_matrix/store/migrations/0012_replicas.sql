-- The lease of the service that leads, of several on a database: who holds it (NULL: nobody), as what
-- it is told, in which term (epoch, which counts up), and when that ends unless it is renewed (seconds
-- since 1970 by the database's clock). Always one row; a service that has its database to itself
-- needs none of it.
CREATE TABLE lease (
    holder TEXT,
    name TEXT,
    epoch INTEGER NOT NULL,
    ends REAL NOT NULL
);
INSERT INTO lease (epoch, ends) VALUES (0, 0);
-- The services on a database that run: as what each is told, a digest of the map that its
-- configuration has, and when it was last heard of.
CREATE TABLE replica (
    holder TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    map TEXT,
    seen_at REAL NOT NULL
);
-- Who is signed in to the console: a digest of the session's ID, whose it is, when it began and when it
-- was last used (seconds since 1970). And the key that seals their cookies; one row once there is any.
CREATE TABLE console_session (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    begun REAL NOT NULL,
    used REAL NOT NULL
);
CREATE INDEX console_session_user ON console_session (user_id, used);
CREATE TABLE console_key (
    name TEXT PRIMARY KEY CHECK (name = 'cookies'),
    value TEXT NOT NULL
);
