-- What SQLite's migration of this number brings, where each table and column is explained.
CREATE TABLE former_name (
    group_id TEXT NOT NULL,
    name TEXT NOT NULL,
    request TEXT,
    until DOUBLE PRECISION NOT NULL
);
