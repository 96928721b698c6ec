-- unsure_until: a request that changes the account had no answer, and may be carried out until then
-- (seconds since 1970), whatever was answered since. So long nothing that the service may have done
-- to it counts as done by a hand, and then the account is looked at once more.
ALTER TABLE account ADD COLUMN unsure_until REAL;
CREATE INDEX account_unsure ON account (unsure_until) WHERE unsure_until IS NOT NULL;
