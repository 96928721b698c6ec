"""The story of a room: what opens it, who is in it by what, and what waits (pure)."""

from collections.abc import Iterator

from scim_matrix.problems import cure_of
from scim_matrix.story.rows import Line, Part, Room, Row, Story
from scim_matrix.story.words import (
    SETTLED,
    TO_SETTLE,
    called,
    held,
    lately,
    listed,
    mapping,
    people,
    plain,
    stopped,
    then,
    when,
    why_closed,
)

# So many of those who are there by hand are named.
NAMED = 10


def story(room: Room) -> Story:
    """Return a room's story."""
    parts = [
        Part("Room", list(_room(room))),
        Part("Opened by", list(_openers(room))),
        Part("People", list(_people(room))),
        lately(room.lately, room.names, former=room.former),
    ]
    return Story(called(room.room_id, room.names), [part for part in parts if part.lines])


def _room(room: Room) -> Iterator[Line]:
    row = room.room
    for reference in room.references:
        if reference["reason"]:
            yield Line(
                f"{reference['reference']}: {plain(reference['reason'])}.", reference["cure"]
            )
    if row is None:
        yield Line("It has not been compared with the homeserver yet.")
        return
    if row["successor"]:
        yield Line(f"It was upgraded: {called(row['successor'], room.names)} took its place.")
    if row["upgrade_to"]:
        yield Line(f"Its upgrade is not followed: {plain(row['reason'])}.", row["cure"])
    if row["unusable"]:
        cure = cure_of("room-unusable")
        yield Line(f"It cannot be used at present: {plain(row['unusable'])}.", cure)
    if row["compared_at"]:
        yield Line(f"Last compared with the homeserver {when(row['compared_at'])}.")


def _openers(room: Room) -> Iterator[Line]:
    for row in room.openers:
        groups = "everyone who is active" if row["kind"] == "everyone" else row["groups"]
        who = f"{groups or 'no group so far'}: {people(row['people'])}"
        line = f"{mapping(row, room.names)}. {who}."
        if (why := stopped(row)) is None:
            yield Line(line)
        else:
            yield Line(f"Not at present, {line} But {why[0]}.", why[1])
    if not room.openers:
        yield Line("No line of the map. Nobody is joined, and nobody is removed.")


def _people(room: Room) -> Iterator[Line]:
    for row in room.people:
        state, cure = _state(row, room)
        who = row["user_id"] if row["people"] == 1 else people(row["people"])
        yield Line(f"{who} {state}", cure, is_held=row["brake"] == "held")
    if room.held:
        yield Line(f"Held are {', '.join(room.held)}.")
    if room.by_hand:
        more = "" if len(room.by_hand) <= NAMED else " and others"
        named = listed(room.by_hand[:NAMED]) if not more else ", ".join(room.by_hand[:NAMED])
        yield Line(
            f"{people(len(room.by_hand))} there by hand, whom nobody removes for that:"
            f" {named}{more}."
        )


def _state(row: Row, room: Room) -> tuple[str, str | None]:
    """Return how some people are in a room, and what to do about it."""
    name = row["group_name"]
    group = then(name, row["last"], room.former) if name else "no group"
    if row["observed"] == "ban":
        return "banned by hand.", None
    match row["state"]:
        case "granted" if row["observed"] == "join":
            without = f", without their power level: {plain(row['reason'])}"
            return f"there because of {group}{without if row['problem'] else ''}.", None
        case "granted" if row["left_by_choice"]:
            return "left by themselves, which is respected.", None
        case "granted" if row["observed"] == "invite" and row["todo"] is None:
            return f"invited because of {group}.", None
        case "granted" if row["in_conflict"]:
            return f"to be brought in because of {group}, once {SETTLED}{_between(row)}.", TO_SETTLE
        case "granted":
            failed = f", which failed: {plain(row['reason'])}" if row["problem"] else ""
            return f"to be brought in because of {group}{failed}{_between(row)}.", None
        case "forgotten" if row["is_suspended"]:
            return "left alone: their mapping is suspended, and nobody is removed for that.", None
        case "forgotten":
            return "left alone: the map no longer gives it.", None
        case "dismissed":
            return "staying, as a human decided.", None
    cause = {
        "revoked": f"because {group} no longer gives it",
        "pruned": "because a human asked for it",
        "excluded": f"because {why_closed(room.closed, room.names)}",
    }[row["state"]]
    if row["observed"] == "leave":
        return f"gone {cause}{_between(row)}.", None
    if row["in_conflict"]:
        return f"to leave {cause}, once {SETTLED}{_between(row)}.", TO_SETTLE
    if row["brake"] == "held":
        why, decide = held(row["held_because"], f"'{room.room_id}'")
        return f"to leave {cause}{_between(row)}. Held: {why}.", decide
    failed = f", {row['problem']}: {plain(row['reason'])}" if row["problem"] else ""
    return f"to leave {cause}{_between(row)}{failed}.", None


def _between(row: Row) -> str:
    """Return when that became so, and by which requests."""
    if not row["first"]:
        return ""
    first, last = when(row["first"]), when(row["last"])
    told = first if first == last else f"{first} to {last}"
    if row["requests"] == 1 and row["request"]:
        return f" ({told}, request {row['request']})"
    return f" ({told}, {row['requests']} requests)" if row["requests"] > 1 else f" ({told})"
