-- What SQLite's migration of this number brings, where each column is explained.
ALTER TABLE account ADD COLUMN unsure_until DOUBLE PRECISION;
ALTER TABLE account ADD COLUMN unsure_of TEXT CHECK (unsure_of IN
    ('lock', 'suspend', 'deactivate', 'erase'));
CREATE INDEX account_unsure ON account (unsure_until) WHERE unsure_until IS NOT NULL;
UPDATE account SET unsure_until = 0, unsure_of = doing
WHERE user_id IS NOT NULL AND confirmed IS NULL AND desired <> 'unmanaged';
