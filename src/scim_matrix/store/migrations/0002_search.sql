-- What searches look up by equality. folded() is the form that is not case exact.

CREATE INDEX scim_user_display_name ON scim_user (display_name_key);
CREATE INDEX scim_user_last_modified ON scim_user (last_modified);
CREATE INDEX scim_group_last_modified ON scim_group (last_modified);

CREATE TABLE user_email (
    value_key TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES scim_user (id) ON DELETE CASCADE,
    PRIMARY KEY (value_key, user_id)
) WITHOUT ROWID;
CREATE INDEX user_email_user ON user_email (user_id);
INSERT OR IGNORE INTO user_email (value_key, user_id)
SELECT folded(e.value ->> '$.value'), u.id
FROM scim_user u, json_each(u.document, '$.emails') e WHERE e.value ->> '$.value' IS NOT NULL;

CREATE TRIGGER user_email_of_new AFTER INSERT ON scim_user
BEGIN
    INSERT OR IGNORE INTO user_email (value_key, user_id)
    SELECT folded(e.value ->> '$.value'), new.id FROM json_each(new.document, '$.emails') e
    WHERE e.value ->> '$.value' IS NOT NULL;
END;
CREATE TRIGGER user_email_of_changed AFTER UPDATE OF document ON scim_user
WHEN old.document -> '$.emails' IS NOT new.document -> '$.emails'
BEGIN
    DELETE FROM user_email WHERE user_id = new.id;
    INSERT OR IGNORE INTO user_email (value_key, user_id)
    SELECT folded(e.value ->> '$.value'), new.id FROM json_each(new.document, '$.emails') e
    WHERE e.value ->> '$.value' IS NOT NULL;
END;

DROP VIEW mapped_group;
