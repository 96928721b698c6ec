"""What a human is shown of one office, in commands, the console and stories, word by word."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from scim_matrix import groupmap as group_map
from scim_matrix.cli.why import told
from scim_matrix.store import console, groupmap, story, views
from scim_matrix.store.database import Connection
from scim_matrix.story import group, person, room
from scim_matrix.sync.guard import Brake
from tests.homeserver.deployment import Configuration, deployed
from tests.homeserver.world import World
from tests.service.test_scenarios import Scenario

SHOWN = Path(__file__).with_name("what_is_shown.txt")
MAP = {
    "staff": [{"room": "#kitchen:s", "powerLevel": 50}, "!hall"],
    "displayName:eng-*": [{"room": "!space", "children": True}],
    "house": ["!attic"],
    "*": ["#late:s"],
    "cooks": [{"room": "!cellar", "exclusive": True, "mode": "invite"}],
    "chiefs": [{"room": "!hall", "powerLevel": 100}],
}
OLD = {"displayName:Old*": ["!hall", "!past", {"room": "!annex", "children": True}]}
OFFICE = {
    "map": MAP | OLD,
    "users": {
        **dict.fromkeys(("ann", "bob", "cat", "eve", "ina", "ned", "pat", "yan", "zoe"), True),
        **{"dan": "without an account", "off": False},
    },
    "accounts": {"dan": {"displayname": "Somebody else"}},
    "groups": {
        "Staff": {"externalId": "staff", "members": ["ann", "bob", "cat", "ned", "pat"]},
        "Cooks": {"externalId": "cooks", "members": ["ann"]},
        "Chiefs": {"externalId": "chiefs", "members": ["zoe"]},
        "eng-web": {"members": ["bob", "dan", "off"]},
        "eng-sys": {"members": ["cat"]},
        "House": {"externalId": "house", "members": ["eng-web", "ned"]},
        "Nobody": {"members": ["ina"]},
        "Old hands": {"members": ["yan"]},
        "Guests": {"members": ["eve", "ned"]},
    },
    "rooms": {
        **{"!kitchen": ["ned"], "!hall": [], "!cellar": [], "!attic": []},
        **{"!space": [], "!child": ["eve"], "!made": ["eve"], "!past": []},
        **{"!annex": [], "!shed": []},
    },
    "levels": {"!made": {"eve": 100, "bot": 100}, "!hall": {"bot": 100}},
    "spaces": {"!space": ["!child"], "!annex": ["!shed"]},
    "aliases": {"#kitchen:s": "!kitchen"},
}
# Eve's mapping is suspended, removals and accounts are held, Pat is spared, Yan is forgotten in two
# rooms, one of which nothing names any more, Cat has left one.
LATER: list[dict[str, Any]] = [
    {"has power": ["!made", {"eve": None}]},
    {"members": ["Staff", ["ann"]]},
    {"members": ["eng-sys", []]},
    *({"active": [name, False]} for name in ("ina", "eve", "cat", "pat")),
    {"map": MAP},
]
ROOMS = ("!kitchen", "!hall", "!child", "!space", "!cellar", "!attic", "!made")


async def lists(reader: Connection, ids: Mapping[str, str]) -> AsyncIterator[tuple[str, Any]]:
    """Return what commands and the console list, with a heading each."""
    yield "users", await views.users(reader, None)
    yield "users a*", await views.users(reader, "a*")
    yield "users @b*", await views.users(reader, "@b*")
    yield "subjects", await views.subjects(reader)
    yield "groups", await views.groups(reader, None)
    yield "groups e*", await views.groups(reader, "e*")
    yield "rooms", await views.mapped_rooms(reader)
    yield "people in !hall", await views.people(reader, "!hall")
    yield "rooms of bob", await views.places(reader, ["@bob:s"])
    yield "rooms of eve", await views.places(reader, ["@eve:s"])
    yield "left to do", await views.left_to_do(reader, 100)
    yield "codes", await views.codes(reader)
    yield (
        "would be done",
        [[m.room_id, m.user_id, m.todo, m.power] for m in await views.pending_memberships(reader)],
    )
    yield "would be done to accounts", await views.pending_accounts(reader)
    yield "progress", [f"{what}: {a}" for what, a in (await views.progress(reader)).items()]
    for words in ("", "builder", "@zoe", "dan", "bob@x", "nobody"):
        yield f"people: {words}", await console.people_named(reader, words, 20)
    yield "one of the people", await console.people_named(reader, "", 1)
    yield "needing", await console.needing(reader, 20)
    yield "rooms listed", await console.rooms_listed(reader)
    yield "counted", list((await console.rooms_counted(reader, ROOMS)).values())
    for found in (await console.rooms_opened_by(reader, ROOMS)).values():
        yield "opened by", found
    for room_id in ROOMS:
        yield f"people of {room_id}", await console.people_in(reader, room_id, "", 20, 0)
    yield "some of !hall", await console.people_in(reader, "!hall", "", 2, 1)
    yield "zoe in !hall", await console.people_in(reader, "!hall", "zoe", 20, 0)
    for mapped in (None, True, False):
        yield f"groups mapped: {mapped}", await console.groups_listed(reader, "", mapped, 20)
    yield "groups with e", await console.groups_listed(reader, "e", None, 2, 1)
    for found in (await console.groups_opened(reader, ids.values())).values():
        yield "opened", found
    yield "groups opening", await console.groups_opening(reader, ["!child", "!hall", "!made"])
    for name in ("Staff", "eng-web", "Nobody", "House", "Old hands"):
        yield f"{name} falls under", await console.of_group(reader, ids[name])
        yield f"group {name}", await console.group(reader, ids[name])
        yield f"members of {name}", await console.members_of(reader, ids[name], "", 3, 0)
        yield f"accounts of {name}", sorted(await console.accounts_of(reader, ids[name]))
    yield "held places", await console.held_places(reader, 20, 0)
    yield "second held place", await console.held_places(reader, 1, 1)
    for place in (None, "!kitchen", "!hall"):
        yield f"held in {place}", await console.held_in(reader, place, 20)
    for name in ("ann", "ANN", "@ann:s", "@dan:s", ids["ann"], "x"):
        yield f"meant by {name}", [str(len(await story.accounts_called(reader, name)))]
    for name in ("staff", "STAFF", ids["Staff"], "Old*"):
        yield f"groups meant by {name}", await story.groups_called(reader, name)
    for name in ("@eve:s", "@ann:s", "@x:s"):
        yield f"is {name} seen", [str(await story.is_seen(reader, name))]


async def waiting(reader: Connection) -> AsyncIterator[tuple[str, Any]]:
    """Return what lists say of work that nobody has begun."""
    yield "left to do, at once", await views.left_to_do(reader, 100)
    yield "codes, at once", await views.codes(reader)
    yield (
        "would be done, at once",
        [[m.room_id, m.user_id, m.todo, m.power] for m in await views.pending_memberships(reader)],
    )
    yield "would be done to accounts, at once", await views.pending_accounts(reader)
    yield "users n*, at once", await views.users(reader, "n*")
    yield "people: ne, at once", await console.people_named(reader, "ne", 20)


async def stories(reader: Connection, ids: Mapping[str, str]) -> AsyncIterator[str]:
    """Return stories as `scim-matrix why` tells them."""
    for name in ("ann", "bob", "dan", "eve", "ina", "ned", "off", "yan", "zoe"):
        [account] = await story.accounts_called(reader, name)
        yield from_rows(person.story(await story.person(reader, account)))
    for room_id in ROOMS:
        yield from_rows(room.story(await story.room(reader, room_id)))
    for name in ("Staff", "eng-web", "House", "Nobody", "Old hands"):
        yield from_rows(group.story(await story.group(reader, ids[name])))


def from_rows(told_of: Any) -> str:
    """Return a story as text.

    Nobody knows the order of what was done at the same time, nor how often what is refused was
    tried.
    """
    story = undated("\n".join(told(told_of, 1000)))
    head, lately, acts = story.partition("\nLately\n")
    return head + lately + "\n".join(sorted(set(acts.split("\n"))))


def undated(text: str) -> str:
    """Return a text without what differs each time."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "(when)", text)
    text = re.sub(r"\(when\) to \(when\)", "(when)", text)
    return re.sub(r"\b[0-9a-f]{16}\b", "(request)", text)


def plain(rows: Any) -> Iterable[str]:
    """Return rows as lines, without what nobody is shown or what differs each time."""
    left_out = {"since", "tick", "request", "compared_at", "account_id", "expires"}
    for row in [rows] if isinstance(rows, dict) else rows or []:
        if isinstance(row, dict):
            yield ", ".join(f"{k} {v}" for k, v in sorted(row.items()) if k not in left_out and v)
        else:
            yield str(row)


async def test_a_human_is_shown_what_is_so(tmp_path: Path) -> None:
    """The office's lists and stories read as in what_is_shown.txt, which is meant to be read."""
    configuration = Configuration(protected_users=("@pat:*",), brake=Brake(30, 1, 3600))
    async with deployed(tmp_path, World(), configuration) as deployment:
        scenario = Scenario(OFFICE, deployment)
        scenario.people()
        scenario.rooms()
        await scenario.directory()
        ids = scenario.ids
        await scenario.patch(f"/Users/{ids['bob']}", "displayName", "Bob Builder")
        await scenario.patch(f"/Users/{ids['bob']}", "emails", [{"value": "Bob@x.test"}])
        await deployment.quiet()
        await scenario.step({"maps in the console": ["eve", {"displayName:Nobody": ["!made"]}]})
        await deployment.quiet()
        for step in LATER:
            await scenario.step(step)
        await deployment.quiet()

        reader = deployment.database.reader
        text = ""
        async for heading, rows in lists(reader, ids):
            text += "\n".join([f"# {heading}", *plain(rows), "", ""])
        async for one in stories(reader, ids):
            text += f"{one}\n\n"

        await scenario.user("new")
        await scenario.user("never", active=False)
        await scenario.step({"members": ["Cooks", ["ann", "new", "never", "ned"]]})
        await scenario.step({"members": ["House", ["ned"]]})
        await scenario.step({"active": ["zoe", False]})
        async for heading, rows in waiting(reader):
            text += "\n".join([f"# {heading}", *plain(rows), "", ""])
    for name, identity in ids.items():
        text = text.replace(identity, f"({name})")
    text = re.sub(r" +$", "", undated(text), flags=re.MULTILINE)
    assert text.splitlines() == SHOWN.read_text("utf-8").splitlines(), text


async def test_a_line_of_the_console_is_told_by_its_groups_name(tmp_path: Path) -> None:
    """`rooms` and `status` name the group, whose ID the mapping has."""
    async with deployed(tmp_path) as deployment:
        room = deployment.world.room("@admin:s").room_id
        deployment.world.account("@eve:s")
        _, group = await deployment.scim("POST", "/Groups", {"displayName": "Chiefs"})
        line = group_map.Mapping("group_id", group["id"], room)
        async with deployment.database.write() as connection:
            await groupmap.add(connection, line, "@eve:s", None)
        deployment.reconciler.compare()
        await deployment.quiet()
        reader = deployment.database.reader
        assert [row["keys"] for row in await views.mapped_rooms(reader)] == ["group Chiefs"]
        [suspended] = await views.left_to_do(reader, 10)
        assert (suspended["state"], suspended["group"]) == ("suspended", "Chiefs")
