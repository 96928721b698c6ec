-- PostgreSQL's migration of this number notes once for many lines of the map what changed.
SELECT 1;
