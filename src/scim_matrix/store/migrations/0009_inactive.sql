-- Whoever is not active, so that the others of a large group are counted without reading each.
CREATE INDEX scim_user_inactive ON scim_user (id) WHERE NOT active;
