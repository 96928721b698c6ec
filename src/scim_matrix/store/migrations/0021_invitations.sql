-- invite_unsure_until: an invitation, which a join may leave behind as well, was asked for and had no
-- answer, or has none yet, and may be carried out until then (seconds since 1970). Until a room was
-- read after that, whoever is invited to it is asked for.
ALTER TABLE membership ADD COLUMN invite_unsure_until REAL;
