-- The lease goes by nobody's clock but the services' own: it counts (renewed) how often its term was
-- renewed, and whoever sees neither change for long enough begins another. `id`: at most one row; where
-- there is none it is put back. A holder of '' is nobody.
ALTER TABLE lease RENAME TO former_lease;
CREATE TABLE lease (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    holder TEXT,
    name TEXT,
    epoch INTEGER NOT NULL,
    renewed INTEGER NOT NULL
);
INSERT INTO lease SELECT 1, holder, name, epoch, 0 FROM former_lease;
DROP TABLE former_lease;
-- The highest term that a service has seen, and whether it could act: the homeserver takes it, and so
-- does the database.
ALTER TABLE replica ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN able BOOLEAN NOT NULL DEFAULT FALSE;
-- The settings by which a service acts, each as its name and a digest of its value, in a JSON list.
ALTER TABLE replica ADD COLUMN settings TEXT;
