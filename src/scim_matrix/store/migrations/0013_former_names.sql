-- The names that groups had: whose, the request by which that ended, and when (seconds since 1970).
-- What is done because of a group goes by the name that it had then. They go with the record.
CREATE TABLE former_name (
    group_id TEXT NOT NULL,
    name TEXT NOT NULL,
    request TEXT,
    until REAL NOT NULL
);
