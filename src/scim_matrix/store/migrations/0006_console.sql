-- Mappings that people made in the console, beside those of file and environment.
CREATE TABLE console_mapping (
    kind TEXT NOT NULL,
    pattern TEXT NOT NULL,
    room_reference TEXT NOT NULL,
    power INTEGER,
    children INTEGER NOT NULL DEFAULT 0,
    invite INTEGER NOT NULL DEFAULT 0,
    exclusive INTEGER NOT NULL DEFAULT 0,
    made_by TEXT NOT NULL,
    made_at REAL NOT NULL,
    PRIMARY KEY (kind, pattern, room_reference)
) WITHOUT ROWID;
