-- unsure_until: a request that changes the account had no answer, and may be carried out until then
-- (seconds since 1970), whatever was answered since. So long nothing that the service may have done
-- to it counts as done by a hand, and then the account is looked at once more.
-- unsure_of: what of that, or of what it may undo, disables the account, and was let through.
-- Of what is under way the time begins with the next start.
ALTER TABLE account ADD COLUMN unsure_until REAL;
ALTER TABLE account ADD COLUMN unsure_of TEXT CHECK (unsure_of IN
    ('lock', 'suspend', 'deactivate', 'erase'));
CREATE INDEX account_unsure ON account (unsure_until) WHERE unsure_until IS NOT NULL;
UPDATE account SET unsure_until = 0, unsure_of = doing
WHERE user_id IS NOT NULL AND confirmed IS NULL AND desired <> 'unmanaged';
