-- What SQLite's migration of this number brings, where the column is explained.
ALTER TABLE membership ADD COLUMN invite_unsure_until DOUBLE PRECISION;
