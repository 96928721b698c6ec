-- Whose removal was asked for, without an answer since: where it turns out to be done it counts.
ALTER TABLE membership ADD COLUMN leaving BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE membership SET leaving = TRUE
WHERE problem = 'unavailable' AND observed IS NULL AND state IN ('revoked', 'pruned', 'excluded');
