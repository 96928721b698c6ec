-- What SQLite's migration of this number brings, where each table and column is explained.
ALTER TABLE account ADD COLUMN disabling_until DOUBLE PRECISION;
ALTER TABLE account ADD COLUMN enabling_until DOUBLE PRECISION;
ALTER TABLE account ADD COLUMN look_at DOUBLE PRECISION;
CREATE INDEX account_look ON account (look_at) WHERE look_at IS NOT NULL;
