"""The words in which stories are told (pure)."""

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scim_matrix.groupmap import key
from scim_matrix.story.rows import Former, Line, Part, Row, Rows

# By what is done, as the record names it (store/record.py).
_ACTS = {
    "join": "joining",
    "invite": "an invitation to",
    "kick": "removal from",
    "power": "power level in",
    "create": "making the account",
    "update": "writing the account's profile",
    "lock": "locking the account",
    "suspend": "suspending the account",
    "deactivate": "deactivating the account",
    "erase": "erasing the account",
    "disable": "disabling the account",
    "account": "work on the account",
    "bind": "finding the account",
    "link": "linking the account",
    "unlink": "unlinking the account",
    "alias": "an alias for",
    "create_room": "making",
    "map": "a mapping of",
    "unmap": "taking out a mapping of",
    "sync": "a comparison",
    "restore": "a backup that was put back",
    "rename_group": "another name for the group",
    "delete_group": "the end of the group",
}
# After every moment (seconds since the epoch), as JSON can say it.
EVER = 1e15
# Until when nothing is done for somebody whose account may be another's, and what ends that.
SETTLED = "it is settled whose account it is"
TO_SETTLE = "scim-matrix users says why, and what to type"
# What ends that a room cannot be used.
CHECK = "scim-matrix check"
_OF_GROUPS = ("rename_group", "delete_group")
_OUTCOMES = {
    "done": "done",
    "refused": "refused",
    "held": "held for a human",
    "approved": "approved",
    "dismissed": "dismissed: nothing is done",
    "asked": "asked for",
    "spared": "not done",
    "dry_run": "a dry run, not done",
}


def _why_held(because: str, what: str) -> str:
    if because == "restored":
        return "only a backup that was put back speaks of it"
    return f"unusually many {what} at once, so a human decides"


def held(because: str, target: str) -> tuple[str, str]:
    """Return why something is held, and what lets it go on; `target` is what `approve` takes."""
    why = _why_held(because, "accounts" if target == "accounts" else "removals")
    if because == "restored":
        return why, "scim-matrix approve restored, or let the identity provider synchronise"
    return why, f"scim-matrix approve {target}, or to keep them: scim-matrix dismiss {target}"


def when(at: float) -> str:
    """Return a moment (seconds since the epoch) as a sentence names it."""
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def dated(text: str | None) -> str:
    """Return a moment of a resource (ISO 8601) as a sentence names it."""
    return when(datetime.datetime.fromisoformat(text).timestamp()) if text else "never"


def since(row: Row) -> str:
    """Return since when something is so, and which request is behind it."""
    parts = [f"since {when(row['since'])}"] if row["since"] else []
    parts += [f"request {row['request']}"] if row["request"] else []
    return f" ({', '.join(parts)})" if parts else ""


def again(row: Row) -> str:
    """Return when something that failed is tried again."""
    return f" Next try due {when(row['next_try'])}." if row["next_try"] else ""


def called(room_id: str, names: Mapping[str, str]) -> str:
    """Return a room by its name, with the ID."""
    name = names.get(room_id)
    return f"{name} ({room_id})" if name and name != room_id else room_id


def listed(words: Iterable[str]) -> str:
    """Return words as a sentence lists them."""
    *some, last = [*words] or ["nothing"]
    return f"{', '.join(some)} and {last}" if some else last


def people(number: int) -> str:
    """Return how many people."""
    return "1 person" if number == 1 else f"{number} people"


def mapping(row: Row, names: Mapping[str, str]) -> str:
    """Return a line of the map: key and room, what it says beyond that, and who made it."""
    room = row["alias"] or names.get(row["reference"], row["reference"])
    # A mapping of the console names its group by ID, which nobody knows it by.
    group = row.get("groups") or row.get("group_name") or row.get("name")
    pattern = group if row["kind"] == "group_id" and group else row["pattern"]
    told = [f"{key(row['kind'], pattern)} → {room}"]
    if row["via"]:
        told.append(f"a room of the space {called(row['via'], names)}")
    if row["power"] is not None:
        told.append(f"power level {row['power']}")
    told += ["by invitation"] if row["invite"] else []
    told += ["nobody else may be there"] if row["exclusive"] else []
    if row["made_by"]:
        told.append(f"made in the console by {row['made_by']}")
    return ", ".join(told)


def why_closed(rows: Rows, names: Mapping[str, str]) -> str:
    """Return why those leave a room to whom no group gives it: who says so, where and since when.

    `rows` are the lines of the map that let nobody else be there, as they are now.
    """
    told = "no group gives it, and the room is to hold nobody else"
    says = [_closing(row, names) for row in rows]
    return f"{told}, as said by {listed(says)}" if says else told


def _closing(row: Row, names: Mapping[str, str]) -> str:
    room = row["alias"] or names.get(row["reference"], row["reference"])
    who = row["made_by"] and f"{row['made_by']} in the console"
    at = f", {when(row['made_at'])}" if row["made_at"] else ""
    line = row["group"] or key(row["kind"], row["pattern"])
    return f"{who or row['said_in']} ({line} → {room}{at})"


# -- Groups and their names --------------------------------------------------------------------


def became(
    name: str, at: float, former: Iterable[Former], request: str | None = None
) -> Former | None:
    """Return the group that had a name at some time (seconds), None where one has it still.

    What is done because of a name comes after its end, too: what came of the `request` that ended
    it is about whoever had it then; and so is all else where nobody took the name since.
    """
    had = sorted((one for one in former if one.name == name), key=lambda one: one.until)
    found = [one for one in had if request is not None and one.request == request]
    found += [one for one in had if at <= one.until]
    found += [one for one in had[-1:] if not one.is_taken]
    return found[0] if found else None


def then(name: str, at: float | None, former: Iterable[Former], request: str | None = None) -> str:
    """Return a group as it was called then (None or 0: of late), and what it is called now."""
    found = became(name, at or math.inf, former, request)
    if found is None or found.now == name:
        return name
    return f"{name} ({'deleted since' if found.now is None else f'{found.now} now'})"


@dataclass(frozen=True, slots=True)
class Span:
    """That a name meant a group, after and until some time (seconds).

    And what came of `request` later, if any, and nothing that came of those of `others`.
    """

    name: str
    after: float
    until: float
    request: str | None
    others: list[str]


def spans(group_id: str, now: str | None, former: Sequence[Former]) -> list[Span]:
    """Return which names meant a group, and when; see `became`.

    `now` is what it is called now, None where it was deleted.
    """
    ends = [(one.name, one.until, one.request) for one in former if one.group_id == group_id]
    ends += [] if now is None else [(now, EVER, None)]
    found = []
    for name, until, request in ends:
        others = [one for one in former if one.name == name and one.until != until]
        after = max((one.until for one in others if one.until < until), default=-1.0)
        is_last = not any(one.until > until or one.is_taken for one in former if one.name == name)
        requests = [one.request for one in others if one.request is not None]
        found.append(Span(name, after, EVER if is_last else until, request, requests))
    return found


def unusable(row: Row) -> str:
    """Return that a room cannot be used, as an end of what is told of who is in it; or nothing."""
    if not row["unusable"]:
        return ""
    return f" That is as last seen: the room cannot be used at present, {plain(row['unusable'])}."


def stopped(row: Row) -> tuple[str, str | None] | None:
    """Return why a line of the map opens a room to nobody, and the cure; None where it does."""
    if row["mapping_standing"] == "suspended":
        return f"the mapping is suspended: {plain(row['mapping_reason'])}", row["mapping_cure"]
    if row["mapping_standing"] == "overruled":
        return "the configuration says something else of this group and room", None
    if row["reference_standing"] != "pinned":
        unknown = {"waiting": "a human has to let it in", "unresolved": "it is not found"}
        reason = plain(row["reference_reason"] or "it has not been asked for yet")
        return f"{unknown[row['reference_standing']]}: {reason}", row["reference_cure"]
    if row["opening_standing"] == "not_followed":
        return f"the step to it is not followed: {plain(row['opening_reason'])}", (
            row["opening_cure"]
        )
    return None


def plain(reason: str | None) -> str:
    """Return a reason as the end of a sentence."""
    return (reason or "").rstrip(".")


def ways(start: str, edges: Rows) -> dict[str, list[str]]:
    """Return the groups that somebody is in, each with the groups that lead there, nearest first.

    `edges` say which group (`outer_id`, `outer`) has what in it (`inner_id`).
    """
    names = {row["outer_id"]: row["outer"] for row in edges}
    found: dict[str, list[str]] = {}
    left: list[tuple[str, list[str]]] = [(start, [])]
    while left:
        inner, path = left.pop(0)
        for row in edges:
            if row["inner_id"] == inner and row["outer_id"] not in found:
                found[row["outer_id"]] = path
                left.append((row["outer_id"], [*path, names[row["outer_id"]]]))
    return found


def lately(
    rows: Rows,
    names: Mapping[str, str],
    who: str | None = None,
    former: Sequence[Former] = (),
) -> Part:
    """Return what was done, the newest first; `who` is whom a list of one person is about."""
    lines = [Line(_act(row, names, who, former), room_id=row["room_id"]) for row in rows]
    return Part("Lately", lines)


def detail(outcome: str, text: str, *, of_room: bool = True) -> str:
    """Return what the record says beside an outcome, in words; `of_room`: of somebody in a room."""
    if outcome == "held" and text in ("limit", "restored"):
        return _why_held(text, "removals" if of_room else "accounts")
    return text


def _act(row: Row, names: Mapping[str, str], who: str | None, former: Sequence[Former]) -> str:
    if row["kind"] in _OF_GROUPS:
        return f"{when(row['at'])}: {_of_group(row)}{_in_brackets(_requests(row))}"
    room = names.get(row["room_id"], row["room_id"] or "")
    what = f"{_ACTS.get(row['kind'], row['kind'])} {room}".strip()
    whom = ""
    if who is None and row["user_id"]:
        whom = f", {row['user_id']}" if row["people"] == 1 else f", {people(row['people'])}"
    outcome = _OUTCOMES.get(row["outcome"], row["outcome"])
    by = f" by {row['by']}" if row["by"] else ""
    group = row["group_name"]
    why = [f"because of {then(group, row['at'], former, row['request'])}"] if group else []
    if row["detail"]:
        why.append(detail(row["outcome"], row["detail"], of_room=bool(row["room_id"])))
    why += _requests(row)
    return f"{when(row['at'])}: {what}{whom}: {outcome}{by}{_in_brackets(why)}"


def _of_group(row: Row) -> str:
    """Return what the identity provider did with a group itself."""
    if row["kind"] == "delete_group":
        return f"the group {row['group_name']} was deleted at the identity provider"
    return f"the group {row['group_name']} is called {row['detail'] or 'otherwise'} from then on"


def _requests(row: Row) -> list[str]:
    if row["requests"] > 1:
        return [f"{row['requests']} requests"]
    return [f"request {row['request']}"] if row["request"] else []


def _in_brackets(words: list[str]) -> str:
    return f" ({'; '.join(words)})" if words else ""
