-- disabling_until, enabling_until: a request that takes the account out of use, or lets it be used,
-- had no answer, and may be carried out until then (seconds since 1970), whatever was answered since.
-- look_at: the account is as wanted, and is looked at once more then, since what is the opposite may
-- be carried out until that time.
ALTER TABLE account ADD COLUMN disabling_until REAL;
ALTER TABLE account ADD COLUMN enabling_until REAL;
ALTER TABLE account ADD COLUMN look_at REAL;
CREATE INDEX account_look ON account (look_at) WHERE look_at IS NOT NULL;
