-- What SQLite's migration of this number brings, where the column is explained.
ALTER TABLE room ADD COLUMN levels_unsure_until DOUBLE PRECISION;
