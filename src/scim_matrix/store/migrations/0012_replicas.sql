-- The lease of the service that leads, of several on a database: who holds it (NULL: nobody), as what
-- it is told, in which term (epoch, which counts up), and when that ends unless it is renewed (seconds
-- since 1970 by the database's clock). Always one row; a service that has its database to itself
-- needs none of it.
CREATE TABLE lease (
    holder TEXT,
    name TEXT,
    epoch INTEGER NOT NULL,
    ends REAL NOT NULL
);
INSERT INTO lease (epoch, ends) VALUES (0, 0);
-- The services on a database that run: as what each is told, a digest of the map that its
-- configuration has, and when it was last heard of.
CREATE TABLE replica (
    holder TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    map TEXT,
    seen_at REAL NOT NULL
);
