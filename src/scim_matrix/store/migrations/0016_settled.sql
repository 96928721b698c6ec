-- PostgreSQL's migration of this number changes how it finds the rooms of those who are settled.
SELECT 1;
