"""Versions of resources that change with others (RFC 7644 section 3.14)."""

import datetime

from scim_matrix.store.database import Connection


async def count_up_groups_of(connection: Connection, member_id: str) -> None:
    """Count up the version of each group that lists a member directly: it is about to go."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    await connection.execute_fetchall(
        "UPDATE scim_group SET last_modified = :now, version = version + 1"
        " WHERE id IN (SELECT group_id FROM group_member WHERE value = :member_id)",
        {"now": now, "member_id": member_id},
    )
