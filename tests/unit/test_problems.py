"""Every problem has a code, and every code its cause and cure in the documentation."""

import ast
import re
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from scim_matrix import problems
from scim_matrix.config import ConfigurationError, Settings
from scim_matrix.ops import health
from scim_matrix.settings_cures import cure
from scim_matrix.sync.breaker import Condition
from scripts.problems_page import PAGE, SENTENCE

SOURCE = Path(__file__).parents[2] / "src" / "scim_matrix"
WORSE_THAN_INFO = ("warning", "error", "critical", "exception")
# A breaker's events are put together of these.
CONDITIONS = [c for c in get_args(Condition) if c not in ("unknown", "ready")]
# MAS waits for nobody.
EVENTS = {*product(("homeserver", "mas"), CONDITIONS)} - {("mas", "waiting")}


def logged(file: Path) -> set[str]:
    """Return the events that a file logs as warnings or worse."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in WORSE_THAN_INFO
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        ):
            event = node.args[0]
            if isinstance(event, ast.JoinedStr):
                found |= {f"{name}_{c}" for name, c in EVENTS}
                continue
            found |= {
                part.value
                for part in ast.walk(event)
                if isinstance(part, ast.Constant)
                and isinstance(part.value, str)
                and "_" in part.value
            }
    return found


def test_whatever_is_logged_as_a_problem_has_a_code() -> None:
    """A warning or an error in the log is documented, and what is documented is logged."""
    events = {event for problem in problems.TABLE for event in problem.events}
    assert events == set().union(*(logged(file) for file in SOURCE.rglob("*.py")))
    assert len(events) == sum(len(problem.events) for problem in problems.TABLE)


def test_whatever_is_shown_has_a_code() -> None:
    """Codes of `status` and /readyz are documented, and so is every condition of a server."""
    sql = (SOURCE / "store" / "queries" / "views.sql").read_text()
    work, codes = (re.search(rf"-- {n} --.*?\n\n", sql, re.DOTALL) for n in ("work", "codes"))
    assert work is not None
    assert codes is not None
    shown = set(re.findall(r"'([a-z]+(?:-[a-z]+)+|restored|spared)'", work[0]))
    assert shown == set(re.findall(r"'([a-z]+(?:-[a-z]+)+|restored|spared)'", codes[0]))
    health = (SOURCE / "ops" / "health.py").read_text()
    shown |= set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', health)) - {"no-store"}
    shown |= {f"{name}-{c}" for name, c in EVENTS}
    assert shown <= set(problems.BY_CODE)
    assert len(problems.BY_CODE) == len(problems.TABLE)


def test_what_goes_well_has_no_code() -> None:
    """The same event may tell of a step that is followed, or a mapping in force again."""
    assert problems.of_event("alias_moved", {"followed": False}) == "alias-moved"
    assert problems.of_event("alias_moved", {"followed": True}) is None
    assert problems.of_event("mapping_judged", {"in_force": True}) is None
    assert problems.of_event("joined", {}) is None


def test_the_page_is_the_table() -> None:
    """docs/problems.md says what the code says, under a heading for each code."""
    assert PAGE.read_text() == problems.document(SENTENCE)
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    assert headings == list(problems.BY_CODE)


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_a_setting_that_is_wrong_is_told_with_what_would_be_right(name: str) -> None:
    """Every setting has an example, or says what it takes."""
    told = cure(Settings, f"{name}: is wrong")
    assert told.startswith(f"set {name} to ")
    takes_numbers = Settings.model_fields[name.lower()].annotation is int
    assert takes_numbers or "a whole number" not in told


def test_a_mistake_in_the_configuration_comes_with_its_cure() -> None:
    """What stands in a file of its own is its setting's, and each mistake has one."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({"LISTEN_PORT": "many", "WEBHOOK_SECRET_FILE": "/nowhere"})
    told = dict(caught.value.told())
    assert told["LISTEN_PORT: " + _reason(told, "LISTEN_PORT")] == (
        "set LISTEN_PORT to a whole number of at least 0 and at most 65535, or leave it out"
    )
    [secret] = [cure for problem, cure in told.items() if problem.startswith("WEBHOOK_SECRET_FILE")]
    assert secret.startswith("set WEBHOOK_SECRET to 16 or more characters")


def test_a_secret_given_twice_is_taken_out_once() -> None:
    """Its cure is not that it be set."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({"WEBHOOK_SECRET": "x" * 16, "WEBHOOK_SECRET_FILE": "/nowhere"})
    [told] = [cure for problem, cure in caught.value.told() if "_FILE is set as well" in problem]
    assert told == "take WEBHOOK_SECRET or WEBHOOK_SECRET_FILE out"


def _reason(told: dict[str, str], name: str) -> str:
    [problem] = [problem for problem in told if problem.startswith(f"{name}: ")]
    return problem.removeprefix(f"{name}: ")


GOOD = {
    "WEBHOOK_SECRET": "x" * 20,
    "MATRIX_URL": "https://matrix.example.com",
    "MATRIX_SERVER_NAME": "example.com",
    "MATRIX_ADMIN_USER_ID": "@bot:example.com",
    "DATA_DIR": "/nowhere",
}
MAS = {"MAS_URL": "https://mas.x", "MAS_CLIENT_ID": "id", "MAS_CLIENT_SECRET": "secret"}


@pytest.mark.parametrize(
    "has",
    [
        *[tuple(n for n in MAS if n != left_out) for left_out in MAS],
        *[(name,) for name in MAS],
        (),
        ("MATRIX_ADMIN_TOKEN",),
        ("IDP_NAME",),
    ],
)
def test_what_is_missing_of_an_account_system_is_not_told_to_be_left_out(
    has: tuple[str, ...],
) -> None:
    """Either what is missing is set, or what is there is taken out; never one setting both."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({**GOOD, **{name: MAS.get(name, "oidc-x") for name in has}})
    told = caught.value.told()
    wanted = set(MAS) if set(has) & set(MAS) else {"MATRIX_ADMIN_TOKEN", "IDP_NAME"}
    assert {problem.partition(":")[0] for problem, _ in told} == wanted - set(has)
    for problem, said in told:
        name = problem.partition(":")[0]
        assert said.startswith(f"set {name} to ")
        assert "leave it out" not in said
        instead = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", said.partition(", or ")[2]))
        assert name not in instead
        assert instead & set(MAS)


def test_a_mas_url_that_is_none_is_not_told_to_be_set_or_left_out() -> None:
    """The other settings of MAS are there: without it they mean nothing."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({**GOOD, **MAS, "MAS_URL": "nowhere"})
    [(_, said)] = caught.value.told()
    assert said == "set MAS_URL to an address such as https://account.example.com/"


@pytest.mark.parametrize("problem", problems.TABLE, ids=lambda problem: problem.code)
def test_no_cure_tells_to_set_what_it_tells_to_take_out(problem: problems.Problem) -> None:
    """What is right for one kind of server only, a cure says of that kind."""
    sentences = re.split(r"\. |: ", problem.cure)
    for name in ("MAS_URL", "MATRIX_ADMIN_TOKEN"):
        told = {
            what
            for what in ("[Ss]et", "[Tt]ake")
            if any(re.search(rf"\b{what} `{name}`", sentence) for sentence in sentences)
        }
        assert len(told) < 2 or "Where MAS keeps them" in problem.cure


def test_what_readyz_says_of_a_server_with_mas_does_not_ask_for_its_settings() -> None:
    """Where MAS_URL is set it is not told to be set, nor a token where the service makes it."""
    words = [*health.EXPLANATION_WITH_MAS.values(), *health.EXPLANATION_OF_MAS.values()]
    words += [said for (_, asks_mas), said in health.REMOVALS.items() if asks_mas]
    assert not [said for said in words if "set MAS_URL" in said or "MATRIX_ADMIN_TOKEN" in said]
