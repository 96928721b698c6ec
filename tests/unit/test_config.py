"""Settings from the environment."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from scim_matrix.config import SECRETS, ConfigurationError, Settings, doubtful, place_of

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
GOOD = {
    "WEBHOOK_SECRET": "one-secret-of-two two-secrets-of-two",
    "MATRIX_URL": "http://127.0.0.1:8008/",
    "MATRIX_SERVER_NAME": "example.com",
    "MATRIX_ADMIN_USER_ID": "@bot:example.com",
    "MATRIX_ADMIN_TOKEN": "syt_secret",
    "IDP_NAME": "oidc-authentik",
    "DATA_DIR": "/data",
}


def problems(environment: dict[str, str]) -> list[str]:
    """Return the problems an environment has."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(environment)
    return caught.value.problems


def test_defaults_and_forms() -> None:
    """Letter case, durations and lists are read as people write them."""
    settings = Settings.load(
        {**GOOD, "LOG_LEVEL": "DEBUG", "DELETE_GRACE": "12h", "PROTECTED_USERS": "@a:* @b:*"}
    )
    assert settings.webhook_secrets == ("one-secret-of-two", "two-secrets-of-two")
    assert settings.delete_grace == 43200
    assert settings.protected_users == ("@a:*", "@b:*")
    assert settings.matrix_url == "http://127.0.0.1:8008"
    assert settings.log_level == "debug"


def test_every_mistake_is_reported_at_once_by_variable() -> None:
    """One run of the administrator is enough to see everything that is wrong."""
    found = problems(
        {
            "LISTEN_PORT": "http",
            "MATRIX_URL": "matrix",
            "IDP_GROUP_TO_ROOM": "{",
            "ON_DISABLE": "explode",
            "LOCALPART_TEMPLATE": "{nick}",
        }
    )
    assert {
        "LISTEN_PORT",
        "MATRIX_URL",
        "IDP_GROUP_TO_ROOM",
        "ON_DISABLE",
        "LOCALPART_TEMPLATE",
        "WEBHOOK_SECRET",
        "MATRIX_SERVER_NAME",
        "MATRIX_ADMIN_USER_ID",
        "MATRIX_ADMIN_TOKEN",
        "IDP_NAME",
        "DATA_DIR",
    } == {problem.split(":")[0] for problem in found}


def test_what_is_wrong_beyond_a_malformed_setting_is_told_with_it(tmp_path: Path) -> None:
    """No mistake hides another until the next start; what is missing is told with how to set it."""
    wrong = {
        "LISTEN_PORT": "http",
        "WEBHOOK_SECRET": "short",
        "MATRIX_ADMIN_USER_ID": "@bot:elsewhere.org",
        "TLS_CERT_FILE": str(tmp_path / "chain.pem"),
        "GROUP_MAP_FILE": str(tmp_path / "none.jsonc"),
    }
    assert {problem.split(":")[0] for problem in problems({**GOOD, **wrong})} == wrong.keys()
    nothing = problems({})
    assert "MATRIX_URL: is not set (needed; set MATRIX_URL)" in nothing
    assert (
        "WEBHOOK_SECRET: is not set (needed; set WEBHOOK_SECRET, WEBHOOK_SECRET_FILE or a"
        " credential)" in nothing
    )
    # What cannot be compared is not.
    assert [p.split(":")[0] for p in problems({**GOOD, "MATRIX_SERVER_NAME": "a b"})] == [
        "MATRIX_SERVER_NAME"
    ]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DRY_RUN", "perhaps", "“perhaps” is neither true nor false"),
        ("LISTEN_PORT", "http", "“http” is no whole number"),
        ("LISTEN_PORT", "70000", "“70000” is more than 65535"),
        ("MAX_BODY_BYTES", "1", "“1” is less than 1024"),
        ("LOG_LEVEL", "loud", "“loud” is none of the words that are known here"),
        ("MATRIX_SERVER_NAME", "a b", "“a b” is not of the form that is needed"),
        ("MATRIX_URL", "matrix", "“matrix” is no address"),
        ("MATRIX_URL", "ftp://x", "“ftp://x” is no address that begins with http:// or https://"),
        ("MATRIX_ADMIN_USER_ID", "bot@s", "“bot@s” is not of the form that is needed"),
        ("TRUSTED_PROXIES", "10.0.0.0/8 proxy", "“proxy” is no network"),
        ("DELETE_GRACE", "soon", "“soon” is no duration"),
    ],
)
def test_a_wrong_value_is_shown_and_told_in_words_of_people(
    name: str, value: str, says: str
) -> None:
    """What is wrong needs no knowledge of patterns, and shows what was read."""
    [problem] = problems({**GOOD, name: value})
    assert problem.startswith(f"{name}: {says}"), problem


def test_a_value_that_may_be_secret_is_not_shown() -> None:
    """A password in an address stays out of what is printed, whatever is wrong with it."""
    for name, value in (
        ("DATABASE_URL", "ftp://ann:hidden@x"),
        ("DATABASE_URL", "ann:hidden@x"),
        ("MATRIX_URL", "ftp://ann:hidden@x"),
    ):
        wrong = {**GOOD, name: value, "DATA_DIR": ""}
        assert "hidden" not in str(problems(wrong))


@pytest.mark.parametrize("name", ["IDP_GROUP_TO_ROOM", "GROUP_MAP_FILE"])
def test_no_cure_has_the_map_left_out(tmp_path: Path, name: str) -> None:
    """Whoever mistyped one line of many does not forget all mappings for it."""
    file = tmp_path / "map.jsonc"
    file.write_text('{"a": ["general"]}')
    value = file.read_text() if name == "IDP_GROUP_TO_ROOM" else str(file)
    for wrong in (value, "{") if name == "IDP_GROUP_TO_ROOM" else (value, "/nowhere/at/all"):
        with pytest.raises(ConfigurationError) as caught:
            Settings.load({**GOOD, name: wrong})
        [(_, cure)] = caught.value.told()
        assert "leave" not in cure, cure


def test_secrets_from_files_and_credentials(tmp_path: Path) -> None:
    """A secret may stand in a file or in systemd's credentials directory."""
    (tmp_path / "hook").write_text("long-enough-from-file\n")
    (tmp_path / "matrix_admin_token").write_text("from-credential\n")
    environment = {k: v for k, v in GOOD.items() if "SECRET" not in k and "TOKEN" not in k}
    settings = Settings.load(
        {
            **environment,
            "WEBHOOK_SECRET_FILE": str(tmp_path / "hook"),
            "CREDENTIALS_DIRECTORY": str(tmp_path),
        }
    )
    assert settings.webhook_secrets == ("long-enough-from-file",)
    assert settings.matrix_admin_token is not None
    assert settings.matrix_admin_token.get_secret_value() == "from-credential"


def test_a_secret_that_may_not_be_read_names_its_reader(tmp_path: Path) -> None:
    """Whose it must be is said: a file in a container has the owner that it has outside."""
    file = tmp_path / "hook"
    file.write_text("a-secret-that-is-long-enough")
    file.chmod(0)
    environment = {**GOOD, "WEBHOOK_SECRET_FILE": str(file)}
    del environment["WEBHOOK_SECRET"]
    # Root may read everything.
    user = os.getuid() or 10001
    os.seteuid(user)
    try:
        found = problems(environment)
    finally:
        os.seteuid(os.getuid())
    assert found == [
        f"WEBHOOK_SECRET_FILE: {file} may not be read by user {user}, as which this runs:"
        f" chown {user} it (into a container it is mounted with the owner that it has outside)"
    ]


def test_secrets_are_not_shown() -> None:
    """Neither repr nor a problem repeats a secret."""
    assert "syt_secret" not in repr(Settings.load(GOOD))
    assert "syt_secret" not in str(problems({**GOOD, "LISTEN_PORT": "x"}))


def test_group_map_file_is_checked_at_start(tmp_path: Path) -> None:
    """A broken or missing map file is a configuration problem."""
    file = tmp_path / "map.jsonc"
    assert [p.split(":")[0] for p in problems({**GOOD, "GROUP_MAP_FILE": str(file)})] == [
        "GROUP_MAP_FILE"
    ]
    file.write_text('{"a": ["#r:s"]} // fine')
    settings = Settings.load({**GOOD, "GROUP_MAP_FILE": str(file)})
    assert [m.room for m in settings.group_map()] == ["#r:s"]


def test_each_line_of_the_map_is_known_by_its_setting(tmp_path: Path) -> None:
    """Whoever looks for a line is told the variable, or the file by its whole path."""
    file = tmp_path / "map.json"
    file.write_text('{"g": ["#file:s"]}')
    both = {"IDP_GROUP_TO_ROOM": '{"g": ["#variable:s"]}', "GROUP_MAP_FILE": str(file)}
    sources = Settings.load({**GOOD, **both}).map_sources()
    assert sources.of("external_id", "g", "#variable:s") == "IDP_GROUP_TO_ROOM"
    assert sources.of("external_id", "g", "#file:s") == f"GROUP_MAP_FILE {file}"
    assert Settings.load(GOOD).map_sources().of("everyone", "", "#r:s") == "the configuration"


def test_admin_must_be_local() -> None:
    """The admin's user ID belongs to the server name."""
    assert problems({**GOOD, "MATRIX_SERVER_NAME": "other.org"}) == [
        "MATRIX_ADMIN_USER_ID: must be a user of MATRIX_SERVER_NAME"
    ]


def test_a_short_secret_is_refused_with_how_to_make_one() -> None:
    """Each of the bearer secrets has to be one that nobody guesses."""
    [problem] = problems({**GOOD, "WEBHOOK_SECRET": "a-secret-that-is-long-enough short"})
    assert problem.startswith("WEBHOOK_SECRET: has a secret of fewer than 16 characters")
    assert "token_urlsafe" in problem
    assert "short" not in problem.removeprefix("WEBHOOK_SECRET: ")


@pytest.mark.parametrize("name", ["WEBHOOK_SECRET", "MATRIX_ADMIN_TOKEN"])
def test_a_secret_in_two_places_is_refused(tmp_path: Path, name: str) -> None:
    """Whoever sets a variable and its file would not know which of the two is in force."""
    (tmp_path / "file").write_text("a-secret-that-is-long-enough")
    found = problems({**GOOD, f"{name}_FILE": str(tmp_path / "file")})
    assert found == [f"{name}: {name}_FILE is set as well; keep one of the two"]


def test_one_database(tmp_path: Path) -> None:
    """A folder or a PostgreSQL, whose address may stand in a file; not both, nor anything else."""
    url = "postgresql://ann:pass-word@db/scim"
    nowhere = {name: value for name, value in GOOD.items() if name != "DATA_DIR"}
    (tmp_path / "database_url").write_text(f"{url}\n")
    for given in (
        {"DATABASE_URL": url},
        {"DATABASE_URL_FILE": str(tmp_path / "database_url")},
        {"CREDENTIALS_DIRECTORY": str(tmp_path)},
    ):
        settings = Settings.load({**nowhere, **given})
        assert settings.place == settings.database_url == SecretStr(url)
        assert "pass-word" not in repr(settings)
        assert place_of({**nowhere, **given}) == SecretStr(url)
    assert problems({**GOOD, "DATABASE_URL": url}) == [
        "DATABASE_URL: DATA_DIR is set as well; keep one of the two"
    ]
    assert place_of(nowhere) is None
    assert place_of({**GOOD, "DATABASE_URL": url}) == Path(GOOD["DATA_DIR"])
    assert problems(nowhere) == ["DATA_DIR: is not set (needed; set DATA_DIR), or DATABASE_URL"]
    wrong = {**nowhere, "DATABASE_URL": "mysql://ann:pass-word@db/scim"}
    assert problems(wrong) == ["DATABASE_URL: must begin with postgresql://"]
    with pytest.raises(ConfigurationError) as caught:
        place_of(wrong)
    assert str(caught.value) == "DATABASE_URL: must begin with postgresql://"
    with pytest.raises(ConfigurationError, match="DATABASE_URL_FILE: cannot be read"):
        place_of({**nowhere, "DATABASE_URL_FILE": str(tmp_path / "nothing")})


def test_misspelt_variables_are_told_with_the_nearest_name() -> None:
    """A variable that looks like a setting and is none would silently protect nobody."""
    environment = {
        **GOOD,
        "WEBHOOK_SECRETS": "x",
        "PROTECTED_USER": "@a:*",
        "RECONCILE_INTERVALL": "1h",
        "MATRIX_ADMIN_TOKEN_FILES": "x",
        "SCIM_MATRIX_WEBHOOK_SECRET": "x",
        "SCIM_MATRIX_WEBHOOK_SECRET_FILE": "x",
        "SCIM_PROTECTED_USER": "x",
        "webhook_secret": "x",
        "Protected_Users": "x",
        "scim_matrix_dry_run": "true",
        "DELETE_GRACE_PERIOD": "7d",
        "PROTECTED_USERS_LIST": "x",
        "DRYRUN": "true",
        "TRUSTED_PROXY": "::1",
        # Set as well as what it is so much like.
        "MATRIX_URI": "x",
        # Other programs' and Kubernetes' own.
        "MATRIX_USER": "x",
        "MATRIX_USER_ID": "x",
        "MATRIX_TOKEN": "x",
        "MATRIX_PASSWORD": "x",
        "MATRIX_ROOM": "x",
        "MATRIX_SERVER": "x",
        "MATRIX_HOMESERVER": "x",
        "LOG_LEVEL_ROOT": "x",
        "KUBERNETES_SERVICE_HOST": "x",
        "DATABASE_URL": "x",
        "WEBHOOK_URL": "x",
        "SCIM_MATRIX_SERVICE_HOST": "10.0.0.1",
        "SCIM_MATRIX_SERVICE_PORT": "80",
        "SCIM_MATRIX_PORT": "tcp://10.0.0.1:80",
        "SCIM_MATRIX_PORT_80_TCP_ADDR": "10.0.0.1",
        "console": "ttyS0",
        "http_proxy": "x",
        "PATH": "/bin",
        "HOME": "/",
        "LANG": "C",
        "LISTEN_FDS": "1",
        "LISTEN_PID": "1",
        "NOTIFY_SOCKET": "x",
        "CREDENTIALS_DIRECTORY": "x",
        "AUTHENTIK_TOKEN": "x",
        "WEBHOOK_SECRET_FILE": "x",
    }
    told = doubtful(environment)
    assert [(line.split(":")[0], line.split()[-2]) for line in told] == [
        ("DELETE_GRACE_PERIOD", "DELETE_GRACE"),
        ("DRYRUN", "DRY_RUN"),
        ("MATRIX_ADMIN_TOKEN_FILES", "MATRIX_ADMIN_TOKEN_FILE"),
        ("MATRIX_URI", "MATRIX_URL"),
        ("PROTECTED_USER", "PROTECTED_USERS"),
        ("PROTECTED_USERS_LIST", "PROTECTED_USERS"),
        ("Protected_Users", "PROTECTED_USERS"),
        ("RECONCILE_INTERVALL", "RECONCILE_INTERVAL"),
        ("SCIM_MATRIX_WEBHOOK_SECRET", "WEBHOOK_SECRET"),
        ("SCIM_MATRIX_WEBHOOK_SECRET_FILE", "WEBHOOK_SECRET_FILE"),
        ("SCIM_PROTECTED_USER", "PROTECTED_USERS"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("WEBHOOK_SECRETS", "WEBHOOK_SECRET"),
        ("scim_matrix_dry_run", "DRY_RUN"),
        ("webhook_secret", "WEBHOOK_SECRET"),
    ]
    assert doubtful({}) == []


@pytest.mark.parametrize(
    ("name", "value", "meaning"),
    [
        ("delete_grace", "90", 90),
        ("delete_grace", "15 m", 900),
        ("record_keep", "2D", 172_800),
        ("max_body_bytes", "65536", 65_536),
        ("max_body_bytes", "64KiB", 65_536),
        ("max_body_bytes", "2 mib", 2_097_152),
        ("max_body_bytes", "1GiB", 1_073_741_824),
    ],
)
def test_durations_and_sizes_take_units(name: str, value: str, meaning: int) -> None:
    """Units are understood in any letter case, with a blank or without."""
    assert getattr(Settings.load({**GOOD, name.upper(): value}), name) == meaning


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DELETE_GRACE", "a week", "s, m, h or d"),
        ("RECONCILE_INTERVAL", "1w", "s, m, h or d"),
        ("REMOVAL_WINDOW", "-5", "s, m, h or d"),
        ("MAX_BODY_BYTES", "32MB", "KiB, MiB or GiB"),
        ("MAX_BODY_BYTES", "lots", "KiB, MiB or GiB"),
    ],
)
def test_wrong_durations_and_sizes_say_what_would_be_right(
    name: str, value: str, says: str
) -> None:
    """The problem names the units that there are."""
    [problem] = problems({**GOOD, name: value})
    assert problem.startswith(f"{name}: ")
    assert says in problem


@pytest.mark.parametrize(
    ("path", "meaning"),
    [
        ("externalId", "externalId"),
        ("ID", "id"),
        ("username", "userName"),
        ("name.familyname", "name.familyName"),
        (f"{ENTERPRISE}:employeenumber", f"{ENTERPRISE}:employeeNumber"),
        (f"{ENTERPRISE}:manager.value", f"{ENTERPRISE}:manager.value"),
        *((wrong, None) for wrong in ("subject", "emails", "emails.value", "name", "active")),
        *((wrong, None) for wrong in ("urn:x:y:employeeNumber", "name.", ".", "userName.x")),
        ("urn:x:y:id", None),
    ],
)
def test_the_subject_is_an_attribute(path: str, meaning: str | None) -> None:
    """SSO_SUBJECT_ATTRIBUTE names an attribute with one text, as the schemas spell it."""
    environment = {**GOOD, "SSO_SUBJECT_ATTRIBUTE": path}
    if meaning is not None:
        assert Settings.load(environment).sso_subject_attribute == meaning
    else:
        [problem] = problems(environment)
        assert problem.startswith(f"SSO_SUBJECT_ATTRIBUTE: “{path}” is no attribute")


MAS = {
    "MAS_URL": "https://auth.example.com/",
    "MAS_CLIENT_ID": "01J44Q10GR4AMTFZEEF936DTCM",
    "MAS_CLIENT_SECRET": "mas-secret",
}
NEEDED_OTHERWISE = ("MATRIX_ADMIN_TOKEN", "IDP_NAME")


def test_mas_takes_the_place_of_a_token() -> None:
    """With the settings for MAS neither token nor Synapse's name of the provider is needed.

    Otherwise it is told where each can be put.
    """
    without = {k: v for k, v in GOOD.items() if k not in NEEDED_OTHERWISE}
    settings = Settings.load({**without, **MAS, "MAS_PROVIDER": "https://idp.example.com"})
    assert settings.mas_url == "https://auth.example.com"
    assert settings.matrix_admin_token is None
    assert "mas-secret" not in repr(settings)
    assert problems(without) == [
        "MATRIX_ADMIN_TOKEN: is not set"
        " (needed; set MATRIX_ADMIN_TOKEN, MATRIX_ADMIN_TOKEN_FILE or a credential)",
        "IDP_NAME: is not set (needed; set IDP_NAME)",
    ]


@pytest.mark.parametrize("missing", MAS)
def test_settings_for_mas_go_together(missing: str) -> None:
    """One that is missing is named, whichever of them are there."""
    some = {name: value for name, value in MAS.items() if name != missing}
    [problem] = problems({**GOOD, **some})
    assert problem.startswith(f"{missing}: is not set")
    named = {p.partition(":")[0] for p in problems({**GOOD, "MAS_PROVIDER": "x"})}
    assert named == set(MAS)


def test_the_secret_for_mas_may_stand_in_a_file(tmp_path: Path) -> None:
    """It is found like the other secrets."""
    (tmp_path / "secret").write_text("from-file\n")
    more = {**MAS, "MAS_CLIENT_SECRET": "", "MAS_CLIENT_SECRET_FILE": str(tmp_path / "secret")}
    settings = Settings.load({**GOOD, **more})
    assert settings.mas_client_secret is not None
    assert settings.mas_client_secret.get_secret_value() == "from-file"


def test_a_map_may_be_in_the_quotes_that_a_reader_left() -> None:
    """Podman and docker hand over an env file's value with the quotes around it."""
    [mapping] = Settings.load(
        {**GOOD, "IDP_GROUP_TO_ROOM": '\'{"Team #1": ["#r:s"]}\''}
    ).group_map()
    assert mapping.pattern == "Team #1"


def test_no_secret_is_told_to_other_services() -> None:
    """What services compare is what decides what is done: no secret, no address of their own."""
    secrets = {"MATRIX_ADMIN_TOKEN": "hidden-token", "WEBHOOK_SECRET": "hidden-secret-of-16-bytes"}
    shared = Settings.load({**GOOD, **secrets}).shared()
    assert "hidden" not in str(shared)
    assert {"MATRIX_SERVER_NAME", "MATRIX_ADMIN_USER_ID", "ON_DELETE", "DRY_RUN"} <= shared.keys()
    assert not {*SECRETS, "MATRIX_URL", "LISTEN_PORT"} & shared.keys()
