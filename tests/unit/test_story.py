"""Stories: every state of an account, a membership and a mapping has its sentence."""

from typing import Any

import pytest

from scim_matrix.problems import cure_of, cure_of_second
from scim_matrix.story import group, person, room
from scim_matrix.story.rows import Former, Group, Person, Room, Rows, Story
from scim_matrix.story.words import became, mapping, spans, then

AT = 1_793_491_200.0
WHEN = "2026-11-01 00:00 UTC"
CAUSE = f"since {WHEN}, request r1"
NAMES = {"!k": "Kitchen", "!s": "Space"}
USER = '{"userName":"ann","displayName":"Ann","externalId":"e1"}'
ACCOUNT = {
    **{"scim_id": "u1", "user_id": "@ann:s", "proposed": "@ann:s", "bound_by": "made"},
    **{"document": USER, "created": "2026-11-01T00:00:00+00:00", "active": True},
    **{"last_modified": "2026-11-01T00:00:00+00:00", "desired": "active", "confirmed": "active"},
    **{"problem": None, "reason": None, "cure": None, "barred": None, "expires": None},
    **{"by_hand": None, "brake": "free", "held_because": None, "notice": None, "todo": None},
    **{"since": AT, "request": "r1", "next_try": 0, "subject": "e1"},
}
PLACE = {
    **{"room_id": "!k", "state": "granted", "observed": "join", "left_by_choice": False},
    **{"brake": "free", "held_because": None, "problem": None, "reason": None, "next_try": 0},
    **{"invite": False, "power": None, "power_given": None, "todo": None, "unusable": None},
    **{"opened": True, "group_name": "Staff", "since": AT, "request": "r1"},
}
MAPPING = {
    **{"mapping_id": 1, "kind": "display_name", "pattern": "St*", "reference": "!k"},
    **{"alias": None, "power": None, "invite": False, "exclusive": False, "made_by": None},
    **{"mapping_standing": "in_force", "mapping_reason": None, "mapping_cure": None},
    **{"reference_standing": "pinned", "reference_room": "!k", "reference_reason": None},
    **{"reference_cure": None, "opening_standing": "followed", "opening_reason": None},
    **{"opening_cure": None, "room_id": "!k", "via": None, "group_name": "Staff"},
    **{"group_id": "g1", "name": "Staff", "joined": 3, "waiting": 1, "people": 4},
    **{"groups": "Staff", "powerless": 0, "power_reason": None, "unusable": None},
}
EDGES = [
    {"inner_id": "u1", "outer_id": "g2", "outer": "Cooks"},
    {"inner_id": "g2", "outer_id": "g1", "outer": "Staff"},
    {"inner_id": "g1", "outer_id": "g2", "outer": "Cooks"},
]
KEYS = [{"group_id": "g1", "mapping_id": 1}]
HOLD = "scim-matrix approve '!k', or to keep them: scim-matrix dismiss '!k'"
RESTORED = "scim-matrix approve restored, or let the identity provider synchronise"


def told(story: Story, heading: str) -> list[tuple[str, str | None]]:
    """Return the sentences of a part, with what to do about each."""
    return [
        (line.text, line.cure)
        for part in story.parts
        if part.heading == heading
        for line in part.lines
    ]


def ann(
    account: dict[str, Any] | None = None,
    places: Rows = (),
    given: Rows = (),
    asked: str | None = None,
) -> Story:
    """Return the story of Ann, who is in Cooks, a group in Staff."""
    merged = {**ACCOUNT, **(account or {})}
    rows = Person("@ann:s", merged, EDGES, KEYS, given, places, (), (), (), NAMES)
    return person.story(rows, room_id=asked)


@pytest.mark.parametrize(
    ("difference", "sentence", "cure"),
    [
        ({}, f"there ({CAUSE}).", None),
        ({"power": 50, "power_given": 50}, f"there with power level 50 ({CAUSE}).", None),
        (
            {"power": 50, "problem": "refused", "reason": "too high."},
            f"there, to get power level 50, which failed: too high ({CAUSE}).",
            None,
        ),
        (
            {"unusable": "404 gone."},
            f"there ({CAUSE}). That is as last seen: the room cannot be used at present, 404 gone.",
            "scim-matrix check",
        ),
        ({"observed": "ban"}, "banned there by hand, and left so.", "Only a hand takes a ban off."),
        ({"observed": "invite", "invite": True}, f"invited, not there yet ({CAUSE}).", None),
        ({"observed": "leave", "todo": "join"}, f"to be joined next ({CAUSE}).", None),
        (
            {"observed": None, "invite": True, "todo": "invite"},
            f"to be invited next ({CAUSE}).",
            None,
        ),
        (
            {"observed": "leave", "left_by_choice": True},
            "left by themselves, which is respected until the identity provider grants it anew"
            f" ({CAUSE}).",
            None,
        ),
        (
            {
                "observed": None,
                "todo": "join",
                "problem": "refused",
                "reason": "no",
                "next_try": AT,
            },
            f"to be joined, which failed: no ({CAUSE}). Next try due {WHEN}.",
            None,
        ),
        (
            {"observed": None, "todo": "join", "unusable": "gone"},
            f"to be joined, and the room cannot be used: gone ({CAUSE}).",
            cure_of("room-unusable"),
        ),
        (
            {"state": "forgotten"},
            f"there, left alone: the map no longer gives it ({CAUSE}).",
            "scim-matrix sync --prune takes out all of those",
        ),
        ({"state": "dismissed"}, "stays, as a human decided.", None),
        (
            {"state": "revoked", "todo": "leave"},
            f"to leave next: Staff no longer gives it ({CAUSE}).",
            None,
        ),
        (
            {"state": "revoked", "todo": "leave", "opened": False},
            f"to leave, once the map opens the room again: Staff no longer gives it ({CAUSE}).",
            None,
        ),
        (
            {"state": "revoked", "todo": "leave", "opened": False, "brake": "approved"},
            f"to leave next: Staff no longer gives it ({CAUSE}).",
            None,
        ),
        (
            {"state": "pruned", "todo": "leave", "opened": False},
            f"to leave next: a human asked for it ({CAUSE}).",
            None,
        ),
        (
            {"state": "excluded", "todo": "leave", "problem": "refused", "reason": "no"},
            "to leave, which failed: no group gives it, and the room is to hold nobody else"
            f" ({CAUSE}); no.",
            None,
        ),
        (
            {"state": "revoked", "todo": "leave", "problem": "spared", "reason": "an admin"},
            f"to leave, and spared: Staff no longer gives it ({CAUSE}); an admin.",
            "done when that is no longer so, or by a hand",
        ),
        (
            {"state": "revoked", "brake": "held", "held_because": "limit"},
            f"to leave, and held: Staff no longer gives it ({CAUSE}); unusually many removals at"
            " once, so a human decides.",
            HOLD,
        ),
        (
            {"state": "revoked", "brake": "held", "held_because": "restored"},
            f"to leave, and held: Staff no longer gives it ({CAUSE}); only a backup that was put"
            " back speaks of it.",
            RESTORED,
        ),
    ],
)
def test_each_state_of_a_membership_is_told(
    difference: dict[str, Any], sentence: str, cure: str | None
) -> None:
    """How somebody is in a room, how they should be, since when and by which request."""
    [line] = told(ann(places=[{**PLACE, **difference}]), "Rooms")
    assert line == (f"Kitchen (!k): {sentence}", cure)


def test_a_room_that_is_over_is_told_where_it_is_asked_for() -> None:
    """Who left long ago is in no list of rooms, and has an answer all the same."""
    left = {**PLACE, "state": "revoked", "observed": "leave"}
    nowhere = "In no room that the map names, and none is open to them."
    assert told(ann(places=[left]), "Rooms") == [(nowhere, None)]
    [(sentence, _)] = told(ann(places=[left], asked="!k"), "Rooms")
    assert sentence == f"Kitchen (!k): not there: Staff no longer gives it ({CAUSE})."
    [(sentence, _)] = told(ann(asked="!k"), "Rooms")
    assert sentence.startswith("Kitchen (!k): not there, as far as is known")


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ({}, "Staff (through Cooks) by displayName:St* → Kitchen"),
        ({"via": "!s"}, "a room of the space Space (!s)"),
        ({"power": 50}, ", power level 50"),
        ({"made_by": "@eve:s", "alias": "#k:s"}, "→ #k:s, made in the console by @eve:s"),
        ({"exclusive": True}, ", nobody else may be there"),
        ({"invite": True}, ", by invitation"),
        (
            {"kind": "everyone", "group_name": "everyone", "mapping_id": 2},
            "everyone by * → Kitchen",
        ),
    ],
)
def test_the_line_of_the_map_that_opens_a_room_is_told(
    difference: dict[str, Any], said: str
) -> None:
    """With the group, those that lead to it, and what else it says."""
    [(sentence, _)] = told(ann(places=[PLACE], given=[{**MAPPING, **difference}]), "Rooms")
    assert said in sentence
    assert "Opened by" in sentence


@pytest.mark.parametrize(
    ("difference", "why", "cure"),
    [
        (
            {
                "mapping_standing": "suspended",
                "mapping_reason": "no power.",
                "mapping_cure": "give",
            },
            "the mapping is suspended: no power",
            "give",
        ),
        ({"mapping_standing": "overruled"}, "the configuration says something else", None),
        (
            {"opening_standing": "not_followed", "opening_reason": "who?", "opening_cure": "ask"},
            "the step to it is not followed: who?",
            "ask",
        ),
        (
            {"reference_standing": "waiting", "reference_reason": "made by @eve:s"},
            "a human has to let it in: made by @eve:s",
            None,
        ),
        ({"reference_standing": "unresolved"}, "it is not found: it has not been asked", None),
    ],
)
def test_what_keeps_a_room_from_being_opened_is_told(
    difference: dict[str, Any], why: str, cure: str | None
) -> None:
    """To whoever would be there, in the room's story and in the group's."""
    row = {**MAPPING, **difference}
    [line] = told(ann(given=[row]), "Rooms")
    assert (why in line[0], line[1]) == (True, cure)
    [line] = told(room.story(Room("!k", None, (), [row], (), (), (), NAMES)), "Opened by")
    assert (why in line[0], line[1]) == (True, cure)
    told_of = group.story(Group(GROUP, (), (), [row], (), (), NAMES))
    [line] = told(told_of, "Rooms")
    assert (why in line[0], line[1]) == (True, cure)


@pytest.mark.parametrize(
    ("difference", "sentence", "cure"),
    [
        ({}, "@ann:s: this service made it for this very user.", None),
        ({"bound_by": "link"}, "@ann:s: the SSO identity of the user leads to it.", None),
        (
            {"problem": "conflict", "user_id": None, "reason": "it is Bob's.", "cure": "link"},
            "Conflict, @ann:s is not touched: it is Bob's.",
            "link",
        ),
        (
            {"user_id": None, "bound_by": None},
            "None yet, it would be @ann:s: looked for and made next.",
            None,
        ),
        (
            {"user_id": None, "problem": "refused", "reason": "M_X", "next_try": AT},
            f"None yet, it would be @ann:s (refused): M_X. Next try due {WHEN}.",
            None,
        ),
        (
            {"user_id": None, "desired": "disabled"},
            "None: none is made for a user who is not active.",
            None,
        ),
        (
            {"desired": "deleted", "confirmed": "deleted", "document": None, "expires": AT},
            f"It is locked, since the identity provider deleted the user ({CAUSE}).",
            None,
        ),
        (
            {"desired": "disabled", "confirmed": None},
            f"It is to be disabled, since the user is not active ({CAUSE}).",
            None,
        ),
        ({"expires": AT}, f"The grace period ends {WHEN}: then ON_DELETE is done.", None),
        (
            {"by_hand": "locked"},
            "Somebody locked it by hand.",
            "Only a hand takes off what a hand did.",
        ),
        (
            {"brake": "held", "held_because": "limit"},
            "Held: unusually many accounts at once, so a human decides.",
            "scim-matrix approve accounts, or to keep them: scim-matrix dismiss accounts",
        ),
        (
            {"brake": "held", "held_because": "restored"},
            "Held: only a backup that was put back speaks of it.",
            RESTORED,
        ),
        (
            {"problem": "spared", "reason": "an admin"},
            "Not done (spared): an admin.",
            None,
        ),
        ({"todo": "provision"}, "Its profile is being brought in line, or will be next.", None),
        ({"notice": "one e-mail"}, "Left out of its profile: one e-mail.", None),
    ],
)
def test_each_state_of_an_account_is_told(
    difference: dict[str, Any], sentence: str, cure: str | None
) -> None:
    """Which one, how it was found, what is done to it and what waits."""
    assert (sentence, cure) in told(ann(difference), "Account")


@pytest.mark.parametrize(
    ("account", "why"),
    [
        ({"problem": "conflict", "cure": "link"}, "once the account is settled"),
        ({"user_id": None}, "once there is an account"),
        ({"by_hand": "deactivated"}, "once somebody reactivates the account"),
    ],
)
def test_a_room_waits_for_the_account(account: dict[str, Any], why: str) -> None:
    """Nobody is joined who has no account that could be."""
    place = {**PLACE, "observed": None, "todo": "join"}
    [(sentence, _)] = told(ann(account, [place]), "Rooms")
    assert sentence == f"Kitchen (!k): to be joined, {why} ({CAUSE})."


def test_a_second_account_is_told_with_both_subjects() -> None:
    """Whoever signs in by SSO as somebody else is told so where their account is."""
    second = [{"user_id": "@ann1:s", "subject": "x9"}]
    account = {**ACCOUNT, "subject": "e1"}
    rows = Person("@ann:s", account, (), (), (), (), (), second, (), NAMES)
    [_, (sentence, cure)] = told(person.story(rows), "Account")
    assert sentence == (
        "They sign in by SSO as another account, @ann1:s, whose subject is x9; theirs is e1."
    )
    assert cure == cure_of_second("u1", "@ann1:s")


def test_groups_are_told_with_the_way_to_them() -> None:
    """Those inside each other once, the nearest first, and whether the map knows them."""
    assert told(ann(), "Groups") == [
        ("Cooks; no key of the map matches it.", None),
        ("Staff through Cooks.", None),
    ]


def test_somebody_whom_the_identity_provider_does_not_know_has_a_story() -> None:
    """Who is in a room by hand: that, and that nobody removes them."""
    rows = Person("@eve:s", None, (), (), (), (), ("!k",), (), (), NAMES)
    story = person.story(rows, "@eve:s administers the homeserver")
    [known, protected] = told(story, "At the identity provider")
    assert "no user with this account" in known[0]
    assert protected == (
        "Never locked, demoted or removed: @eve:s administers the homeserver.",
        None,
    )
    [(sentence, _)] = told(story, "Rooms")
    assert sentence.startswith("Kitchen (!k): there by hand.")


# -- Rooms and groups -------------------------------------------------------------------------

GROUP = {
    **{"id": "g1", "display_name": "Staff", "external_id": "x1", "direct": 2, "active": 5},
    **{"created": "2026-11-01T00:00:00+00:00", "last_modified": "2026-11-01T00:00:00+00:00"},
}
SOME = {
    **{"state": "granted", "observed": "join", "left_by_choice": False, "todo": None},
    **{"brake": "free", "held_because": None, "problem": None, "reason": None},
    **{"group_name": "Staff", "people": 20, "user_id": "@ann:s", "first": AT, "last": AT + 60},
    **{"requests": 20, "request": None, "in_conflict": False, "is_suspended": False},
}
SPAN = f"({WHEN} to 2026-11-01 00:01 UTC, 20 requests)"


@pytest.mark.parametrize(
    ("difference", "sentence", "cure"),
    [
        ({}, "20 people there because of Staff.", None),
        ({"people": 1}, "@ann:s there because of Staff.", None),
        (
            {"problem": "refused", "reason": "too high."},
            "20 people there because of Staff, without their power level: too high.",
            None,
        ),
        (
            {"observed": None, "todo": "join", "in_conflict": True},
            "20 people to be brought in because of Staff, once it is settled whose account it is"
            f" {SPAN}.",
            "scim-matrix users says why, and what to type",
        ),
        ({"observed": "ban"}, "20 people banned by hand.", None),
        (
            {"left_by_choice": True, "observed": "leave"},
            "20 people left by themselves, which",
            None,
        ),
        ({"observed": "invite"}, "20 people invited because of Staff.", None),
        (
            {"observed": None, "todo": "join", "problem": "refused", "reason": "no"},
            f"20 people to be brought in because of Staff, which failed: no {SPAN}.",
            None,
        ),
        ({"state": "forgotten"}, "20 people left alone: the map no longer gives it.", None),
        (
            {"state": "forgotten", "is_suspended": True},
            "20 people left alone: their mapping is suspended, and nobody is removed for that.",
            None,
        ),
        ({"state": "dismissed"}, "20 people staying, as a human decided.", None),
        (
            {"state": "revoked", "brake": "held", "held_because": "limit"},
            f"20 people to leave because Staff no longer gives it {SPAN}. Held: unusually many",
            HOLD,
        ),
        (
            {"state": "revoked", "brake": "held", "held_because": "restored"},
            "20 people to leave",
            RESTORED,
        ),
        (
            {"state": "excluded", "todo": "leave", "problem": "spared", "reason": "an admin"},
            f"20 people to leave because no group gives it, and the room is to hold nobody else"
            f" {SPAN}, spared: an admin.",
            None,
        ),
        ({"state": "pruned", "requests": 1}, "20 people to leave because a human asked", None),
    ],
)
def test_the_people_of_a_room_are_told_in_numbers(
    difference: dict[str, Any], sentence: str, cure: str | None
) -> None:
    """One sentence for all that are alike, never one a person."""
    story = room.story(Room("!k", None, (), (), [{**SOME, **difference}], (), (), NAMES))
    [line] = told(story, "People")
    assert (line[0].startswith(sentence), line[1]) == (True, cure), line[0]


def test_what_ails_a_room_is_told() -> None:
    """Upgrades, aliases that moved, what the homeserver says, who is there by hand."""
    row = {
        **{"successor": "!n", "upgrade_to": "!x", "reason": "no predecessor", "cure": "set it"},
        **{"unusable": "403", "compared_at": AT},
    }
    moved = {"reference": "#k:s", "reason": "it leads elsewhere", "cure": "approve"}
    hand = [f"@p{number:02}:s" for number in range(12)]
    story = room.story(Room("!k", row, [moved], (), (), hand, (), NAMES))
    assert told(story, "Room") == [
        ("#k:s: it leads elsewhere.", "approve"),
        ("It was upgraded: !n took its place.", None),
        ("Its upgrade is not followed: no predecessor.", "set it"),
        ("It cannot be used at present: 403.", cure_of("room-unusable")),
        (f"Last compared with the homeserver {WHEN}.", None),
    ]
    [(people, _)] = told(story, "People")
    assert people.startswith("12 people there by hand")
    assert people.endswith("@p08:s, @p09:s and others.")
    [(nobody, _)] = told(story, "Opened by")
    assert nobody.startswith("No line of the map.")


def test_a_groups_story() -> None:
    """What is in it and around it, what it opens, who is to leave because of it."""
    leaving = {
        **{"room_id": "!k", "brake": "held", "held_because": "limit", "reason": None},
        **{"people": 20, "first": AT, "in_conflict": False},
    }
    unsettled = {**leaving, "brake": "free", "people": 1, "in_conflict": True}
    inside = [{"id": "g2", "display_name": "Cooks"}, {"id": "g3", "display_name": "Pages"}]
    edges = [{"inner_id": "g1", "outer_id": "g4", "outer": "All"}]
    outer = {**MAPPING, "group_id": "g4", "name": "All"}
    powerless = {"powerless": 2, "power_reason": "too high"}
    rows = [MAPPING | powerless, outer]
    story = group.story(Group(GROUP, inside, edges, rows, [leaving, unsettled], (), NAMES))
    assert [text for text, _ in told(story, "At the identity provider")][1:] == [
        "2 people in it, and in it the groups Cooks and Pages: 5 people active, groups inside it"
        " included.",
        "It is inside All, and gets what that gets.",
    ]
    assert [text for text, _ in told(story, "Rooms")] == [
        "Kitchen (!k): opened by displayName:St* → Kitchen. 3 people there, 1 person on the way."
        " 2 people without the power level: too high.",
        "Kitchen (!k): opened as part of All by displayName:St* → Kitchen. 3 people there,"
        " 1 person on the way.",
    ]
    assert told(story, "Waiting") == [
        (
            f"20 people to leave Kitchen (!k) since {WHEN}, held: unusually many removals at once,"
            " so a human decides.",
            HOLD,
        ),
        (
            f"1 person to leave Kitchen (!k) since {WHEN}, once it is settled whose account it is.",
            "scim-matrix users says why, and what to type",
        ),
    ]
    [unmapped] = told(group.story(Group(GROUP, (), (), (), (), ())), "Rooms")
    assert unmapped[1] == ("give the map a key for it: its externalId x1, or displayName:Staff")


def lines(story: Story, heading: str) -> list[bool]:
    """Return of each sentence of a part whether it is about what is held."""
    return [line.is_held for part in story.parts if part.heading == heading for line in part.lines]


@pytest.mark.parametrize("brake", ["held", "free"])
def test_what_is_held_is_known_as_such(brake: str) -> None:
    """In each story, so that a page leads to where it is decided; nothing else is."""
    state = {"state": "revoked", "todo": "leave", "brake": brake, "held_because": "limit"}
    held = brake == "held"
    assert lines(ann(places=[{**PLACE, **state}]), "Rooms") == [held]
    account = {"desired": "disabled", "brake": brake, "held_because": "limit"}
    assert lines(ann(account), "Account").count(True) == held
    story = room.story(Room("!k", None, (), (), [{**SOME, **state}], (), (), NAMES))
    assert lines(story, "People") == [held]
    leaving = {**SOME, **state, "room_id": "!k"}
    told_of = group.story(Group(GROUP, (), (), (), [leaving], (), NAMES))
    assert lines(told_of, "Waiting") == [held]


CONFLICT = {"problem": "conflict", "cure": "link them"}


def test_nobody_in_conflict_is_said_to_leave_next() -> None:
    """It is not known whose account theirs is: in their story, and in the room's, with the cure."""
    leaving = {"state": "revoked", "todo": "leave"}
    [line] = told(ann(CONFLICT, [{**PLACE, **leaving}]), "Rooms")
    assert line == (
        f"Kitchen (!k): to leave, once the account is settled: Staff no longer gives it ({CAUSE}).",
        "link them",
    )
    some = {**SOME, **leaving, "in_conflict": True}
    [line] = told(room.story(Room("!k", None, (), (), [some], (), (), NAMES)), "People")
    assert line == (
        "20 people to leave because Staff no longer gives it, once it is settled whose account it"
        f" is {SPAN}.",
        "scim-matrix users says why, and what to type",
    )


@pytest.mark.parametrize(
    ("difference", "says"),
    [
        (
            {"said_in": "GROUP_MAP_FILE /a/map.jsonc", "made_at": AT, "kind": "everyone"},
            f"GROUP_MAP_FILE /a/map.jsonc (* → Kitchen, {WHEN})",
        ),
        (
            {"said_in": "", "made_by": "@eve:s", "made_at": None, "group": "Staff"},
            "@eve:s in the console (Staff → Kitchen)",
        ),
    ],
)
def test_who_closed_a_room_is_told(difference: dict[str, Any], says: str) -> None:
    """The line of the map, whose it is, and since when: in a person's story and the room's."""
    closed = [{**MAPPING, "pattern": "", "group": None, **difference}]
    excluded = {"state": "excluded", "todo": "leave"}
    rows = Person(
        *("@ann:s", ACCOUNT, (), (), (), [{**PLACE, **excluded}], (), (), (), NAMES), closed
    )
    [(sentence, _)] = told(person.story(rows), "Rooms")
    assert f"the room is to hold nobody else, as said by {says}" in sentence
    some = {**SOME, **excluded}
    story = room.story(Room("!k", None, (), (), [some], (), (), NAMES, closed))
    [(sentence, _)] = told(story, "People")
    assert f"as said by {says}" in sentence


FORMER = [
    Former("g1", "Staff", AT, "Crew", is_taken=True, request="r1"),
    Former("g2", "Cooks", AT, None, request="r2"),
    Former("g3", "Staff", AT - 60, "Hands", is_taken=True, request="r3"),
]


@pytest.mark.parametrize(
    ("name", "at", "cause", "expected"),
    [
        ("Staff", AT - 90, None, "Staff (Hands now)"),
        ("Staff", AT - 30, None, "Staff (Crew now)"),
        ("Staff", AT, None, "Staff (Crew now)"),
        # Another group is called so since, and does what nobody asked for before.
        ("Staff", AT + 30, None, "Staff"),
        ("Staff", None, None, "Staff"),
        ("Staff", AT + 30, "r3", "Staff (Hands now)"),
        ("Cooks", AT + 30, None, "Cooks (deleted since)"),
        ("Pages", AT, None, "Pages"),
    ],
)
def test_a_group_is_called_as_it_was_and_is(
    name: str, at: float | None, cause: str | None, expected: str
) -> None:
    """By whoever had the name at that time; a request that ended it is about that group."""
    assert then(name, at, FORMER, cause) == expected


def test_each_moment_of_a_name_belongs_to_one_group() -> None:
    """Whose it was by `became` is whose story has it."""
    for at in (AT - 90, AT - 60, AT - 30, AT, AT + 30):
        meant = [
            group_id
            for group_id, now in (("g1", "Crew"), ("g2", None), ("g3", "Hands"), ("g9", "Staff"))
            for span in spans(group_id, now, FORMER)
            if span.name == "Staff" and span.after < at <= span.until
        ]
        found = became("Staff", at, FORMER)
        assert meant == ["g9" if found is None else found.group_id]


def test_a_line_of_the_console_names_its_group() -> None:
    """It has the group's ID, which nobody knows the group by."""
    unnamed = {"groups": None, "group_name": None, "name": None}
    line = {**MAPPING, "kind": "group_id", "pattern": "d258dff9", "alias": "#den:s", **unnamed}
    assert mapping({**line, "groups": "Chiefs"}, {}).startswith("group Chiefs → #den:s")
    assert mapping({**line, "group_name": "Chiefs"}, {}).startswith("group Chiefs → #den:s")
    # Of a group that is gone there is nothing else.
    assert mapping(line, {}).startswith("group d258dff9 → #den:s")


def test_a_group_that_is_gone_has_a_story() -> None:
    """When it ended, and what it was called before; the map is to have no key for it."""
    gone = {"id": "g2", "display_name": "Cooks", "deleted": AT}
    story = group.story(Group(gone, (), (), (), (), (), NAMES, FORMER))
    assert told(story, "At the identity provider") == [
        (f"Cooks was deleted there {WHEN}; its SCIM id was g2.", None)
    ]
    assert told(story, "Rooms") == []
    renamed = group.story(Group({**GROUP, "display_name": "Crew"}, (), (), (), (), (), {}, FORMER))
    assert (f"It was called Staff until {WHEN}.", None) in told(renamed, "At the identity provider")


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (
            {"kind": "rename_group", "detail": "Crew"},
            "the group Staff is called Crew from then on (request r1)",
        ),
        (
            {"kind": "delete_group", "detail": None, "requests": 2, "request": None},
            "the group Staff was deleted at the identity provider (2 requests)",
        ),
    ],
)
def test_what_became_of_a_group_is_told(difference: dict[str, Any], sentence: str) -> None:
    """Beside what was done because of it."""
    act = {
        **{"at": AT, "kind": "", "outcome": "asked", "user_id": "g1", "room_id": None, "by": None},
        **{"group_name": "Staff", "request": "r1", "detail": None, "people": 1, "requests": 1},
    }
    rows = Group(GROUP, (), (), (), (), [{**act, **difference}])
    assert told(group.story(rows), "Lately") == [(f"{WHEN}: {sentence}", None)]


def test_what_was_done_lately_is_told_in_groups() -> None:
    """What, where, to how many, because of what and by whom, with the outcome."""
    act = {
        **{"at": AT, "kind": "kick", "outcome": "approved", "user_id": "@ann:s", "room_id": "!k"},
        **{"group_name": "Staff", "request": "r1", "detail": None, "by": "grace"},
        **{"people": 20, "requests": 20},
    }
    story = room.story(Room("!k", None, (), (), (), (), [act, {**act, "people": 1}], NAMES))
    assert [text for text, _ in told(story, "Lately")] == [
        f"{WHEN}: removal from Kitchen, 20 people: approved by grace (because of Staff;"
        " 20 requests)",
        f"{WHEN}: removal from Kitchen, @ann:s: approved by grace (because of Staff; 20 requests)",
    ]
    one = {**act, "outcome": "spared", "detail": "an admin", "by": None, "people": 1, "requests": 1}
    rows = Person("@ann:s", ACCOUNT, (), (), (), (), (), (), [one], NAMES)
    [(sentence, _)] = told(person.story(rows), "Lately")
    assert sentence == (
        f"{WHEN}: removal from Kitchen: not done (because of Staff; an admin; request r1)"
    )
