"""What an older service left behind is taken over as far as it can be read."""

import json
from pathlib import Path
from typing import Any

from scim_matrix.demo.synapse import free_port
from tests.service.conftest import SECRET, Client, Start
from tests.service.test_cli import run

SERVER = "example.org"


def take_over(folder: Path, users: Any, groups: Any) -> str:
    """Run import-json on these documents, which must succeed, and return all that it says."""
    old = folder / "old"
    old.mkdir()
    (old / "users.json").write_text(json.dumps(users))
    (old / "groups.json").write_text(json.dumps(groups))
    (folder / "data").mkdir(exist_ok=True)
    ended = run(
        *("import-json", str(old)),
        cwd=folder,
        WEBHOOK_SECRET=SECRET,
        MATRIX_URL=f"http://127.0.0.1:{free_port()}",
        MATRIX_SERVER_NAME=SERVER,
        MATRIX_ADMIN_USER_ID=f"@bot:{SERVER}",
        MATRIX_ADMIN_TOKEN="token",
        IDP_NAME="oidc-x",
        DATA_DIR=str(folder / "data"),
    )
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said, said
    assert ended.returncode == 0, said
    return said


async def found(client: Client, kind: str, number: int | None = None) -> dict[str, dict[str, Any]]:
    """Return the resources of a kind by externalId."""
    async with client.get(f"/scim/v2/{kind}") as answer:
        assert answer.status == 200
        resources = (await answer.json())["Resources"]
    assert number is None or len(resources) == number
    return {resource["externalId"]: resource for resource in resources}


def about(said: str, *words: str) -> list[str]:
    """Return the lines that name all these words."""
    return [line for line in said.splitlines() if all(word in line for word in words)]


SPELLINGS: list[tuple[Any, bool]] = [
    ("False", False),
    ("false", False),
    ("FALSE", False),
    (False, False),
    ("True", True),
    ("true", True),
    (True, True),
    (None, True),
]


async def test_active_is_read_in_every_spelling(start: Start, tmp_path: Path) -> None:
    """Strings mean what they say: who was disabled in the older service is disabled here."""
    users = {
        f"ext-{n}": {"userName": f"u{n}", "active": spelled}
        for n, (spelled, _) in enumerate(SPELLINGS)
    }
    said = take_over(tmp_path, users, {})
    assert said.strip() == f"{len(users)} users and 0 groups taken over"
    told = run("users", "--json", cwd=tmp_path, DATA_DIR=str(tmp_path / "data"))
    states = {user["userName"]: user["state"] for user in map(json.loads, told.stdout.splitlines())}
    now = await found(await start(), "Users", len(users))
    for n, (spelled, active) in enumerate(SPELLINGS):
        assert now[f"ext-{n}"].get("active", True) is active, spelled
        # What the account is to be follows from it, too.
        expected = ("pending", "active") if active else ("none", "disabled")
        assert states[f"u{n}"] in expected, spelled


async def test_an_active_that_cannot_be_read_is_named(start: Start, tmp_path: Path) -> None:
    """The user is taken over, and the line that says so names user and attribute."""
    odd: list[Any] = ["perhaps", 7, ["x"], {"x": 1}]
    users = {f"ext-{n}": {"userName": f"u{n}", "active": value} for n, value in enumerate(odd)}
    said = take_over(tmp_path, users, {})
    for n, value in enumerate(odd):
        assert about(said, f"ext-{n}", "active"), value
    await found(await start(), "Users", len(odd))


# What stands where e-mails should, and which of it are e-mails.
ODD_EMAILS: list[Any] = [
    7,
    [7],
    [None, {"value": "ann@example.org"}],
    [7, {"value": "ann@example.org"}],
    [{"value": 7}, {"value": "ann@example.org"}],
    [[], {"value": "ann@example.org"}],
    [{"type": "work"}, {"value": "ann@example.org"}],
]


async def test_odd_emails_are_left_out_and_named(start: Start, tmp_path: Path) -> None:
    """Whatever stands where e-mails should, the user is taken over with those that are some."""
    users = {
        f"ext-{n}": {"userName": f"u{n}", "emails": emails} for n, emails in enumerate(ODD_EMAILS)
    }
    said = take_over(tmp_path, users, {})
    now = await found(await start(), "Users", len(users))
    for n, emails in enumerate(ODD_EMAILS):
        addresses = [email["value"] for email in now[f"ext-{n}"].get("emails", [])]
        kept = ["ann@example.org"] if "ann@" in str(emails) else []
        assert addresses == kept, emails
        assert about(said, f"ext-{n}", "emails"), emails


async def test_emails_without_a_list_are_read_or_named(start: Start, tmp_path: Path) -> None:
    """A bare address is taken for one, or said to be left out."""
    odd: list[Any] = ["ann@example.org", {"value": "ann@example.org"}, ["ann@example.org"]]
    users = {f"ext-{n}": {"userName": f"u{n}", "emails": e} for n, e in enumerate(odd)}
    said = take_over(tmp_path, users, {})
    now = await found(await start(), "Users", len(users))
    for n, emails in enumerate(odd):
        addresses = [email["value"] for email in now[f"ext-{n}"].get("emails", [])]
        assert addresses == ["ann@example.org"] or (
            not addresses and about(said, f"ext-{n}", "emails")
        ), emails


async def test_odd_names_are_left_out_and_named(start: Start, tmp_path: Path) -> None:
    """What should be a name or text and is not is left out, and its user taken over."""
    odd: list[tuple[str, Any]] = [
        *(("name", value) for value in ("Ann", 7, [{"formatted": "Ann"}], {"formatted": 7})),
        *(
            (word, value)
            for word in ("displayName", "title", "locale")
            for value in (7, ["x"], {"x": 1})
        ),
    ]
    users = {f"ext-{n}": {"userName": f"u{n}", word: value} for n, (word, value) in enumerate(odd)}
    said = take_over(tmp_path, users, {})
    now = await found(await start(), "Users", len(users))
    for n, (word, value) in enumerate(odd):
        assert about(said, f"ext-{n}", word), value
        assert now[f"ext-{n}"].get(word) != value, (word, value)


NO_ENTRIES: list[Any] = [{}, [], "x", 7, None]


async def test_a_user_that_cannot_be_read_is_named_and_all_others_taken(
    start: Start, tmp_path: Path
) -> None:
    """One entry without a userName costs nobody else anything."""
    odd = [*NO_ENTRIES, {"userName": ""}, {"userName": 7}, {"userName": None}]
    users = {f"odd-{n}": entry for n, entry in enumerate(odd)}
    users["ext-2"] = {"userName": "bob", "id": 7}
    groups = {"g-1": {"displayName": "G", "members": [{"value": "ext-2"}]}}
    said = take_over(tmp_path, users, groups)
    for n, entry in enumerate(odd):
        assert about(said, "users.json", f"odd-{n}"), entry
    assert "1 users and 1 groups taken over" in said
    client = await start()
    assert set(await found(client, "Users", 1)) == {"ext-2"}
    assert len((await found(client, "Groups", 1))["g-1"]["members"]) == 1


async def test_a_group_that_cannot_be_read_is_named_and_all_others_taken(
    start: Start, tmp_path: Path
) -> None:
    """One entry without a displayName costs nobody else anything."""
    odd = [*NO_ENTRIES, {"displayName": ""}, {"displayName": 7}, {"displayName": None}]
    groups = {f"odd-{n}": entry for n, entry in enumerate(odd)}
    groups["g-2"] = {"displayName": "H", "members": [{"value": "ext-1"}]}
    said = take_over(tmp_path, {"ext-1": {"userName": "ann"}}, groups)
    for n, entry in enumerate(odd):
        assert about(said, "groups.json", f"odd-{n}"), entry
    now = await found(await start(), "Groups", 1)
    assert now["g-2"]["displayName"] == "H"


async def test_members_that_cannot_be_read_are_named_and_all_others_kept(
    start: Start, tmp_path: Path
) -> None:
    """Members are ids or objects with one; anything else is left out."""
    odd: list[Any] = [7, None, [], {}, {"value": 7}, {"value": None}]
    users = {f"ext-{n}": {"userName": f"u{n}"} for n in (1, 2)}
    groups: dict[str, Any] = {
        f"g-{n}": {"displayName": f"G{n}", "members": [{"value": "ext-1"}, value, "ext-2"]}
        for n, value in enumerate(odd)
    }
    for members in ("ext-1", 7, {"value": "ext-1"}):
        name = f"whole-{type(members).__name__}"
        groups[name] = {"displayName": name, "members": members}
    said = take_over(tmp_path, users, groups)
    now = await found(await start(), "Groups", len(groups))
    for n, value in enumerate(odd):
        assert about(said, f"g-{n}", "member"), value
        kept = {member["value"] for member in now[f"g-{n}"]["members"]}
        assert kept == {f"@u1:{SERVER}", f"@u2:{SERVER}"}, value
    for name in ("whole-str", "whole-int", "whole-dict"):
        assert about(said, name, "members"), name


async def test_what_an_index_does_not_take_is_left_out_and_named(
    start: Start, tmp_path: Path
) -> None:
    """What is too long is left out, and where it says who somebody is the whole entry."""
    long = "\u9577" * 342
    users = {
        "name": {"userName": long},
        long: {"userName": "keyed"},
        "id": {"userName": "u", "id": f"@{long}:s"},
        "ext": {"userName": "ann", "displayName": long, "emails": [long, "a@b"]},
    }
    groups = {
        "group": {"displayName": long},
        long: {"displayName": "keyed"},
        "g": {"displayName": "G", "members": ["ext", long]},
    }
    said = take_over(tmp_path, users, groups)
    for words in (("name", "userName"), ("id", "id"), ("ext", "displayName"), ("ext", "emails")):
        assert about(said, "users.json", *words, "longer than 1024 bytes"), words
    assert about(said, "groups.json", "group", "longer than 1024 bytes")
    assert about(said, "groups.json", "g", "a member", "longer than 1024 bytes")
    client = await start()
    [user] = (await found(client, "Users", 1)).values()
    assert ("displayName" in user, user["emails"]) == (False, [{"value": "a@b"}])
    assert len((await found(client, "Groups", 1))["g"]["members"]) == 1


async def test_two_entries_of_one_user_name_are_one_user(start: Start, tmp_path: Path) -> None:
    """The first is taken over, the second named; everybody else is taken over."""
    users = {
        "ext-1": {"userName": "ann"},
        "ext-2": {"userName": "ANN"},
        "ext-3": {"userName": "bob"},
    }
    said = take_over(tmp_path, users, {})
    assert about(said, "users.json", "ext-2")
    assert set(await found(await start(), "Users", 2)) == {"ext-1", "ext-3"}


async def test_a_whole_export_leaves_nothing_out(start: Start, tmp_path: Path) -> None:
    """What is in order is taken over without a word about it."""
    user = {
        "userName": "ann",
        "displayName": "Ann",
        "name": {"formatted": "Ann A.", "familyName": "A."},
        "emails": [{"value": "ann@example.org", "primary": True}],
        "active": True,
    }
    groups = {"g-1": {"displayName": "G", "members": [{"value": "ext-1"}]}}
    said = take_over(tmp_path, {"ext-1": user}, groups)
    assert said.strip() == "1 users and 1 groups taken over"
    client = await start()
    now = (await found(client, "Users", 1))["ext-1"]
    assert now["id"] == f"@ann:{SERVER}"
    assert now["name"]["familyName"] == "A."
    assert [e["value"] for e in now["emails"]] == ["ann@example.org"]
