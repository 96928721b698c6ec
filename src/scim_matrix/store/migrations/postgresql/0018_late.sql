-- What SQLite's migration of this number brings, where each column is explained.
ALTER TABLE account ADD COLUMN unsure_until DOUBLE PRECISION;
CREATE INDEX account_unsure ON account (unsure_until) WHERE unsure_until IS NOT NULL;
