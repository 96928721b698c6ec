"""Settings from the environment."""

from pathlib import Path

import pytest

from scim_matrix.config import ConfigurationError, Settings

GOOD = {
    "WEBHOOK_SECRET": "one two",
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
    assert settings.webhook_secrets == ("one", "two")
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


def test_secrets_from_files_and_credentials(tmp_path: Path) -> None:
    """A secret may stand in a file or in systemd's credentials directory."""
    (tmp_path / "hook").write_text("from-file\n")
    (tmp_path / "matrix_admin_token").write_text("from-credential\n")
    environment = {k: v for k, v in GOOD.items() if "SECRET" not in k and "TOKEN" not in k}
    settings = Settings.load(
        {
            **environment,
            "WEBHOOK_SECRET_FILE": str(tmp_path / "hook"),
            "CREDENTIALS_DIRECTORY": str(tmp_path),
        }
    )
    assert settings.webhook_secrets == ("from-file",)
    assert settings.matrix_admin_token.get_secret_value() == "from-credential"


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


def test_admin_must_be_local() -> None:
    """The admin's user ID belongs to the server name."""
    assert problems({**GOOD, "MATRIX_SERVER_NAME": "other.org"}) == [
        "MATRIX_ADMIN_USER_ID: must be a user of MATRIX_SERVER_NAME"
    ]
