"""The story of a group: what it is, which rooms it opens, and what waits because of it (pure)."""

from collections.abc import Iterator

from scim_matrix.story.rows import Group, Line, Part, Row, Story
from scim_matrix.story.words import (
    CHECK,
    SETTLED,
    TO_SETTLE,
    called,
    dated,
    held,
    lately,
    listed,
    mapping,
    people,
    plain,
    stopped,
    unusable,
    ways,
    when,
)


def story(group: Group) -> Story:
    """Return a group's story."""
    parts = [
        Part("At the identity provider", list(_group(group))),
        Part("Rooms", list(_rooms(group))),
        Part("Waiting", list(_leaving(group))),
        lately(group.lately, group.names, former=group.former),
    ]
    name = group.group["display_name"]
    return Story(f"{name}, a group", [part for part in parts if part.lines])


def _group(group: Group) -> Iterator[Line]:
    row = group.group
    if "deleted" in row:
        at = f" {when(row['deleted'])}" if row["deleted"] else ""
        yield Line(f"{row['display_name']} was deleted there{at}; its SCIM id was {row['id']}.")
    else:
        yield from _living(group, row)
    known = [one for one in group.former if one.group_id == row["id"]]
    before = [f"{one.name} until {when(one.until)}" for one in known if one.now is not None]
    if before:
        yield Line(f"It was called {listed(before)}.")


def _living(group: Group, row: Row) -> Iterator[Line]:
    external = row["external_id"]
    known_by = f"externalId {external}" if external else "without an externalId"
    yield Line(
        f"{row['display_name']}: {known_by}, SCIM id {row['id']}. First sent"
        f" {dated(row['created'])}, last changed {dated(row['last_modified'])}."
    )
    inside = f", and in it the groups {listed(r['display_name'] for r in group.inside)}"
    yield Line(
        f"{people(row['direct'])} in it{inside if group.inside else ''}:"
        f" {people(row['active'])} active, groups inside it included."
    )
    names = {edge["outer_id"]: edge["outer"] for edge in group.edges}
    for outer, path in ways(row["id"], group.edges).items():
        through = f" through {', in '.join(path)}" if path else ""
        yield Line(f"It is inside {names[outer]}{through}, and gets what that gets.")


def _rooms(group: Group) -> Iterator[Line]:
    for row in group.openers:
        room_id = row["room_id"] or row["reference_room"]
        where = called(room_id, group.names) if room_id else row["reference"]
        through = "" if row["group_id"] == group.group["id"] else f" as part of {row['name']}"
        line = f"{where}: opened{through} by {mapping(row, group.names)}"
        if (why := stopped(row)) is not None:
            yield Line(f"{line}, but {why[0]}.", why[1], room_id)
            continue
        waiting = f", {people(row['waiting'])} on the way" if row["waiting"] else ""
        without = ""
        if row["powerless"]:
            who = people(row["powerless"])
            without = f" {who} without the power level: {plain(row['power_reason'])}."
        told = f"{line}. {people(row['joined'])} there{waiting}.{without}{unusable(row)}"
        yield Line(told, CHECK if row["unusable"] else None, room_id)
    if not group.openers and "deleted" not in group.group:
        row = group.group
        by_id = f"its externalId {row['external_id']}, or " if row["external_id"] else ""
        yield Line(
            "No line of the map matches it, so it opens no room.",
            f"give the map a key for it: {by_id}displayName:{row['display_name']}",
        )


def _leaving(group: Group) -> Iterator[Line]:
    for row in group.leaving:
        where = called(row["room_id"], group.names)
        what = f"{people(row['people'])} to leave {where} since {when(row['first'])}"
        if row["in_conflict"]:
            yield Line(f"{what}, once {SETTLED}.", TO_SETTLE, row["room_id"])
            continue
        if row["brake"] != "held":
            why = f": {plain(row['reason'])}" if row["reason"] else ""
            yield Line(f"{what}{why}.", room_id=row["room_id"])
            continue
        reason, decide = held(row["held_because"], f"'{row['room_id']}'")
        yield Line(f"{what}, held: {reason}.", decide, row["room_id"], is_held=True)
