-- What SQLite's migration of this number brings, where each table and column is explained.
ALTER TABLE lease RENAME TO former_lease;
CREATE TABLE lease (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    holder TEXT,
    name TEXT,
    epoch BIGINT NOT NULL,
    renewed BIGINT NOT NULL
);
INSERT INTO lease SELECT 1, holder, name, epoch, 0 FROM former_lease;
DROP TABLE former_lease;
ALTER TABLE replica ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN able BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE replica ADD COLUMN settings TEXT;
