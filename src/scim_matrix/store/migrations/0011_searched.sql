-- searched: since when (seconds) an account that was asked for, without an answer, has been looked for
-- in vain.
ALTER TABLE account ADD COLUMN searched REAL;
