-- How many actions of each kind ended how: counted as they are recorded, whatever is pruned.
CREATE TABLE action_count (
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (kind, outcome)
) WITHOUT ROWID;
INSERT INTO action_count (kind, outcome, number)
SELECT kind, outcome, count(*) FROM action GROUP BY kind, outcome;
CREATE TRIGGER action_counted AFTER INSERT ON action
BEGIN
    INSERT INTO action_count (kind, outcome, number) VALUES (new.kind, new.outcome, 1)
    ON CONFLICT (kind, outcome) DO UPDATE SET number = number + 1;
END;

-- When something last happened (seconds since the epoch), such as a comparison of every room.
CREATE TABLE moment (
    what TEXT PRIMARY KEY,
    at REAL NOT NULL
) WITHOUT ROWID;
