"""The file of settings as it is written and read."""

import os
import shlex
import subprocess
from io import StringIO
from pathlib import Path

import dotenv
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scim_matrix.cli.env_file import spelt
from scim_matrix.config import Settings
from tests.unit.test_config import GOOD

# systemd's own reader of such files, which expands what EnvironmentFile= does not.
GENERATOR = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
# What some reader or other takes for something else, and any text.
AWKWARD = [
    "Team #1",
    'Team "A"',
    "it's",
    "C:\\x",
    "a $HOME b",
    "`id`",
    "#",
    "'a'",
    "ä \\u0020",
    "=",
]
NAMES = st.one_of(
    st.sampled_from(AWKWARD),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
    st.text("\\\"'#$ `\tn", min_size=1, max_size=9),
)
MAPS = st.dictionaries(NAMES.map("displayName:{}".format), st.just(["#r:s"]), min_size=1)


def _line(groups: dict[str, list[str]]) -> str:
    return f"IDP_GROUP_TO_ROOM={spelt(groups)}\n"


def _patterns(value: str | None) -> set[str]:
    """Return which groups a service opens rooms for by the value that it is given."""
    assert value is not None
    found = Settings.load({**GOOD, "IDP_GROUP_TO_ROOM": value}).group_map()
    return {f"displayName:{mapping.pattern.replace('[[]', '[')}" for mapping in found}


@given(MAPS)
@settings(max_examples=40)
def test_a_map_is_read_alike_by_dotenv_podman_and_docker(groups: dict[str, list[str]]) -> None:
    """Whether a reader takes the quotes off or leaves them, the groups are those of the map."""
    line = _line(groups)
    told = dotenv.dotenv_values(stream=StringIO(line), interpolate=False)
    assert _patterns(told["IDP_GROUP_TO_ROOM"]) == set(groups)
    assert _patterns(line.removesuffix("\n").partition("=")[2]) == set(groups)


@given(MAPS)
@settings(max_examples=25)
def test_a_map_is_read_alike_by_a_shell(groups: dict[str, list[str]]) -> None:
    """Whoever sources the file gets the map, and runs nothing that stands in it."""
    [word] = shlex.split(_line(groups))
    assert _patterns(word.partition("=")[2]) == set(groups)
    script = f'{_line(groups)}printf %s "$IDP_GROUP_TO_ROOM"'
    told = subprocess.run(["sh", "-c", script], capture_output=True, check=True, timeout=60)
    assert _patterns(told.stdout.decode()) == set(groups)


@pytest.mark.skipif(not GENERATOR.exists(), reason="no systemd here")
@given(MAPS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_map_is_read_alike_by_systemd(tmp_path: Path, groups: dict[str, list[str]]) -> None:
    """What the unit's EnvironmentFile= hands to the service is what the map says."""
    folder = tmp_path / "environment.d"
    folder.mkdir(exist_ok=True)
    (folder / "x.conf").write_text(_line(groups))
    told = subprocess.run(
        [GENERATOR],
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        check=True,
        timeout=60,
        encoding="utf-8",
    )
    [line] = [line for line in told.stdout.split("\n") if line.startswith("IDP_GROUP_TO_ROOM=")]
    assert _patterns(_of_systemd(line.partition("=")[2])) == set(groups)


def _of_systemd(value: str) -> str:
    """Return what systemd printed for a shell: in double quotes where it has to be."""
    return "".join(shlex.split(value)) if value.startswith('"') else value
