"""The story of a person: who they are, which account, which rooms, and why (pure)."""

from collections.abc import Iterator

import orjson

from scim_matrix.problems import cure_of, cure_of_second
from scim_matrix.story.rows import Line, Part, Person, Row, Story
from scim_matrix.story.words import (
    CHECK,
    again,
    called,
    dated,
    held,
    lately,
    listed,
    mapping,
    plain,
    since,
    stopped,
    then,
    unusable,
    ways,
    when,
    why_closed,
)

_FOUND_BY = {
    "link": "the SSO identity of the user leads to it",
    "mark": "this service made it for this very user, as the mark on it proves",
    "made": "this service made it for this very user",
    "record": "it was this user's before, as this database knows",
    "adopted": "it was there by that name, and ADOPT_EXISTING_ACCOUNTS lets it be taken",
    "human": "a human said so (scim-matrix users link)",
    "migrated": "an older version took it, which is still to be confirmed",
    "observed": "it was seen in a room",
}
_SHOULD_BE = {
    "disabled": "disabled, since the user is not active",
    "deleted": "locked, since the identity provider deleted the user",
    "expired": "disabled for good, since the user was deleted and the grace period has passed",
}


def story(person: Person, protection: str | None = None, room_id: str | None = None) -> Story:
    """Return a person's story, of all their rooms or of one.

    `protection` is why nobody locks, demotes or removes them, as far as the caller can tell.
    """
    title = person.user_id or "somebody without an account"
    parts = []
    if person.account is not None:
        title = _title(person.account)
        parts += [
            Part("At the identity provider", list(_user(person.account))),
            Part(
                "Account", [*_account(person.account), *_seconds(person), *_protection(protection)]
            ),
            Part("Groups", list(_groups(person, person.account))),
        ]
    else:
        nobody = "The identity provider has no user with this account, and never had."
        parts.append(Part("At the identity provider", [Line(nobody), *_protection(protection)]))
    parts.append(Part("Rooms", list(_rooms(person, room_id))))
    done = [row for row in person.lately if room_id in (None, row["room_id"])]
    parts.append(lately(done, person.names, person.user_id, person.former))
    return Story(title, [part for part in parts if part.lines])


def _title(account: Row) -> str:
    document = orjson.loads(account["document"]) if account["document"] else {}
    user_id = account["user_id"] or account["proposed"] or account["scim_id"]
    name = document.get("displayName") or document.get("userName")
    return f"{name}, {user_id}" if name else str(user_id)


def _protection(protection: str | None) -> list[Line]:
    if protection is None:
        return []
    return [Line(f"Never locked, demoted or removed: {protection}.")]


def _user(account: Row) -> Iterator[Line]:
    if account["document"] is None:
        if account["desired"] == "unmanaged":
            yield Line("The identity provider has no user with this account.")
        else:
            yield Line(f"The identity provider deleted the user of this account{since(account)}.")
        return
    document = orjson.loads(account["document"])
    external = document.get("externalId")
    known_by = f"externalId {external}" if external else "without an externalId"
    active = "active" if account["active"] else "not active"
    yield Line(
        f"The user {document['userName']} is {active} there: {known_by},"
        f" SCIM id {account['scim_id']}."
    )
    yield Line(
        f"First sent {dated(account['created'])}, last changed {dated(account['last_modified'])}."
    )


def _account(account: Row) -> Iterator[Line]:
    if account["problem"] == "conflict":
        whose = account["barred"] or account["proposed"] or "It"
        yield Line(
            f"Conflict, {whose} is not touched: {plain(account['reason'])}.", account["cure"]
        )
        return
    if account["user_id"] is None:
        yield Line(_unbound(account), account["cure"])
    else:
        yield Line(f"{account['user_id']}: {_FOUND_BY[account['bound_by']]}.")
    if account["desired"] in _SHOULD_BE:
        done = "It is" if account["confirmed"] == account["desired"] else "It is to be"
        yield Line(f"{done} {_SHOULD_BE[account['desired']]}{since(account)}.")
    if account["expires"] is not None:
        yield Line(f"The grace period ends {when(account['expires'])}: then ON_DELETE is done.")
    if account["by_hand"]:
        yield Line(
            f"Somebody {account['by_hand']} it by hand.", "Only a hand takes off what a hand did."
        )
    if account["brake"] == "held":
        why, decide = held(account["held_because"], "accounts")
        yield Line(f"Held: {why}.", decide, is_held=True)
    elif account["problem"] is not None and account["user_id"] is not None:
        yield Line(f"Not done ({account['problem']}): {plain(account['reason'])}.{again(account)}")
    elif account["todo"] is not None and account["user_id"] is not None:
        yield Line("Its profile is being brought in line, or will be next.")
    if account["notice"]:
        yield Line(f"Left out of its profile: {plain(account['notice'])}.")


def _seconds(person: Person) -> Iterator[Line]:
    """Tell of accounts that came of another SSO subject than SCIM sends."""
    own = (person.account or {}).get("subject") or "not known"
    for row in person.seconds:
        yield Line(
            f"They sign in by SSO as another account, {row['user_id']}, whose subject is"
            f" {row['subject']}; theirs is {own}.",
            cure_of_second(str((person.account or {}).get("scim_id")), row["user_id"]),
        )


def _unbound(account: Row) -> str:
    if account["desired"] != "active":
        return "None: none is made for a user who is not active."
    would = f"None yet, it would be {account['proposed']}"
    if account["problem"] is None:
        return f"{would}: looked for and made next."
    return f"{would} ({account['problem']}): {plain(account['reason'])}.{again(account)}"


def _groups(person: Person, account: Row) -> Iterator[Line]:
    if account["scim_id"] is None:
        return
    names = {row["outer_id"]: row["outer"] for row in person.edges}
    mapped = {row["group_id"] for row in person.keys}
    found = ways(account["scim_id"], person.edges)
    if not found:
        yield Line("In no group.")
    for group, path in found.items():
        through = f" through {', in '.join(path)}" if path else ""
        opens = "" if group in mapped else "; no key of the map matches it"
        yield Line(f"{names[group]}{through}{opens}.", group=(group, names[group]))


# -- Rooms -----------------------------------------------------------------------------------


def _rooms(person: Person, asked: str | None) -> Iterator[Line]:
    """Tell of each room; of what is over and done only where it is asked for."""
    told = set()
    for place in person.places:
        room_id = place["room_id"]
        is_over = place["observed"] == "leave" and not (place["todo"] or place["left_by_choice"])
        if asked == room_id or (asked is None and not is_over):
            told.add(room_id)
            yield _place(person, place)
    for room_id in person.by_hand:
        if asked in (None, room_id) and room_id not in told:
            told.add(room_id)
            yield Line(
                f"{called(room_id, person.names)}: there by hand. No group gives it, and nobody"
                " removes them for that.",
                room_id=room_id,
            )
    yield from _not_open(person, asked, told)
    if asked is not None and asked not in told:
        yield Line(
            f"{called(asked, person.names)}: not there, as far as is known, and no group opens it"
            " to them.",
            room_id=asked,
        )
    elif asked is None and not told:
        yield Line("In no room that the map names, and none is open to them.")


def _not_open(person: Person, asked: str | None, told: set[str]) -> Iterator[Line]:
    """Tell of rooms that a group of theirs would open, and does not at present."""
    for row in person.given:
        room_id = row["room_id"] or row["reference_room"]
        if (why := stopped(row)) is None or room_id in told or asked not in (None, room_id):
            continue
        where = called(room_id, person.names) if room_id else row["reference"]
        told.add(room_id or row["reference"])
        line = f"{row['group_name']} ({mapping(row, person.names)})"
        yield Line(f"{where}: not open yet. {line} would open it, but {why[0]}.", why[1], room_id)


def _place(person: Person, place: Row) -> Line:
    state, cure = _state(person, place)
    why = _because(person, place)
    where = called(place["room_id"], person.names)
    told = f"{where}: {state}{f' {why}' if why else ''}"
    return Line(told, cure, place["room_id"], is_held=place["brake"] == "held")


def _because(person: Person, place: Row) -> str:
    """Return by which groups and lines of the map a room is open to somebody."""
    groups = ways(person.account["scim_id"] or "", person.edges) if person.account else {}
    names = {row["outer_id"]: row["outer"] for row in person.edges}
    reasons = []
    for row in person.given:
        if row["room_id"] != place["room_id"] or stopped(row) is not None:
            continue
        matching = [k["group_id"] for k in person.keys if k["mapping_id"] == row["mapping_id"]]
        who = [
            names[g] + (f" (through {', in '.join(groups[g])})" if groups[g] else "")
            for g in matching
            if g in groups
        ]
        reasons.append(f"{listed(who or [row['group_name']])} by {mapping(row, person.names)}")
    if place["state"] != "granted" or not reasons:
        return ""
    return f"Opened by {'; and by '.join(reasons)}."


def _state(person: Person, place: Row) -> tuple[str, str | None]:
    """Return how somebody is in a room and should be, and what to do about it."""
    if place["observed"] == "ban":
        return "banned there by hand, and left so.", "Only a hand takes a ban off."
    if place["state"] == "granted":
        return _granted(person, place)
    if place["state"] == "forgotten":
        return _forgotten(person, place)
    if place["state"] == "dismissed":
        return "stays, as a human decided.", None
    causes = {
        "revoked": _revoked(person, place),
        "pruned": "a human asked for it",
        "excluded": why_closed(
            [row for row in person.closed if row["room_id"] == place["room_id"]], person.names
        ),
    }
    cause = f"{causes[place['state']]}{since(place)}"
    if place["observed"] == "leave":
        return f"not there: {cause}.", None
    account = person.account or {}
    if account.get("problem") == "conflict":
        return f"to leave, once the account is settled: {cause}.", account["cure"]
    return _leaving(place, cause)


def _forgotten(person: Person, place: Row) -> tuple[str, str | None]:
    """Return why the map gives a room to somebody no longer, or not at present."""
    there = "there, " if place["observed"] == "join" else ""
    given = [row for row in person.given if row["room_id"] == place["room_id"]]
    for row in given:
        if row["mapping_standing"] == "suspended" and (why := stopped(row)) is not None:
            line = f"{row['group_name']} ({mapping(row, person.names)})"
            told = f"{there}left alone: {line} gave it, but {why[0]}. Nobody is removed for that."
            return told, why[1]
    return (
        f"{there}left alone: the map no longer gives it{since(place)}.",
        "scim-matrix sync --prune takes out all of those" if there else None,
    )


def _revoked(person: Person, place: Row) -> str:
    """Return why a room is given no more: whoever is disabled may be in its groups still."""
    if person.account is not None and person.account["desired"] not in ("active", "unmanaged"):
        return "the user is disabled or deleted at the identity provider"
    name = place["group_name"]
    group = then(name, place["since"], person.former) if name else "the group"
    return f"{group} no longer gives it"


def _leaving(place: Row, cause: str) -> tuple[str, str | None]:
    if place["brake"] == "held":
        why, decide = held(place["held_because"], f"'{place['room_id']}'")
        return f"to leave, and held: {cause}; {why}.", decide
    if place["problem"] == "spared":
        later = "done when that is no longer so, or by a hand"
        return f"to leave, and spared: {cause}; {plain(place['reason'])}.", later
    if place["problem"] is not None:
        return f"to leave, which failed: {cause}; {plain(place['reason'])}.{again(place)}", None
    if not place["opened"] and place["state"] != "pruned" and place["brake"] != "approved":
        return f"to leave, once the map opens the room again: {cause}.", None
    return f"to leave next: {cause}.", None


def _granted(person: Person, place: Row) -> tuple[str, str | None]:
    power = _power(place)
    if place["observed"] == "join":
        told = f"there{power}{since(place)}.{unusable(place)}"
        return told, CHECK if place["unusable"] else None
    if place["observed"] == "invite" and place["invite"]:
        return f"invited, not there yet{since(place)}.", None
    if place["left_by_choice"]:
        kept = "until the identity provider grants it anew"
        return f"left by themselves, which is respected {kept}{since(place)}.", None
    what = "to be invited" if place["invite"] else "to be joined"
    account = person.account or {}
    if account.get("problem") == "conflict":
        return f"{what}, once the account is settled{since(place)}.", account["cure"]
    if account.get("user_id") is None:
        return f"{what}, once there is an account{since(place)}.", None
    if account.get("by_hand") == "deactivated":
        return f"{what}, once somebody reactivates the account{since(place)}.", None
    if place["unusable"]:
        return (
            f"{what}, and the room cannot be used: {plain(place['unusable'])}{since(place)}.",
            cure_of("room-unusable"),
        )
    if place["problem"] is not None:
        return f"{what}, which failed: {plain(place['reason'])}{since(place)}.{again(place)}", None
    return f"{what} next{since(place)}.", None


def _power(place: Row) -> str:
    if place["power"] is None:
        return ""
    if place["power"] == place["power_given"]:
        return f" with power level {place['power']}"
    failed = f", which failed: {plain(place['reason'])}" if place["problem"] else ""
    return f", to get power level {place['power']}{failed}"
