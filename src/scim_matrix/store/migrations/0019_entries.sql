-- PostgreSQL's migration of this number reads lists that it is given more quickly.
SELECT 1;
