-- levels_unsure_until: what was asked of a room's power levels had no answer, or has none yet, and
-- may be carried out until then (seconds since 1970). So long they are not set.
ALTER TABLE room ADD COLUMN levels_unsure_until REAL;
