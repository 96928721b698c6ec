-- What SQLite's migration of this number brings, where each view is explained.
CREATE VIEW suspended_grant (room_id, account_id) AS
SELECT o.room_id, g.account_id FROM mapping_grant g CROSS JOIN mapping m CROSS JOIN opening o
WHERE g.state = 'granted' AND m.id = g.mapping_id AND m.standing = 'suspended'
AND o.mapping_id = m.id AND o.standing = 'followed';
CREATE VIEW unusable_room (room_id, unusable) AS
SELECT r.room_id, r.unusable FROM room r WHERE r.unusable IS NOT NULL AND (
    EXISTS (SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id
        WHERE o.room_id = r.room_id AND m.standing <> 'dropped')
    OR EXISTS (SELECT 1 FROM membership p
        WHERE p.room_id = r.room_id AND p.state = 'pruned' AND p.todo IS NOT NULL));
CREATE VIEW unfollowed_upgrade (room_id, reason, cure) AS
SELECT r.room_id, r.reason, r.cure FROM room r WHERE r.upgrade_to IS NOT NULL
AND EXISTS (SELECT 1 FROM opening o JOIN mapping m ON m.id = o.mapping_id
    WHERE o.room_id = r.room_id AND m.standing <> 'dropped');
