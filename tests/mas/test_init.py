"""`scim-matrix init` where accounts belong to MAS."""

from pathlib import Path

import dotenv

from scim_matrix.config import Settings
from scim_matrix.demo.mas import CLIENT_ID, CLIENT_SECRET, Mas
from scim_matrix.demo.synapse import SERVER_NAME
from tests.mas.conftest import Delegated
from tests.synapse.test_init import run


async def test_the_homeserver_tells_where_mas_is(
    delegated: Delegated, mas: Mas, tmp_path: Path
) -> None:
    """No token is asked for; the client is tried, and the server's name is MAS's word."""
    file = tmp_path / "made.env"
    given = {
        "--matrix-url": delegated.synapse.url,
        "--mas-client-id": CLIENT_ID,
        "--mas-client-secret": "wrong",
        "--data-dir": str(tmp_path / "data"),
        "--open": f"Staff=#staff:{SERVER_NAME}",
        "--file": str(file),
    }
    words = [word for pair in given.items() for word in pair]
    status, output = await run(tmp_path, "init", *words)
    assert (status, "MAS does not let it administer" in output) == (1, True), output
    assert "admin_clients" in output
    status, output = await run(tmp_path, "init", *words, "--mas-client-secret", CLIENT_SECRET)
    assert status == 0, output
    told = {k: v or "" for k, v in dotenv.dotenv_values(file, interpolate=False).items()}
    settings = Settings.load({**told, "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.mas_url == mas.url.rstrip("/")
    assert settings.matrix_admin_user_id == f"@scim-bot:{SERVER_NAME}"
    assert settings.matrix_admin_token is None
    mas.add_provider("https://other.test/")
    status, output = await run(tmp_path, "init", *words, "--mas-client-secret", CLIENT_SECRET)
    assert (status, "is there already" in output) == (1, True), output
    words += ["--mas-client-secret", CLIENT_SECRET, "--force"]
    status, output = await run(tmp_path, "init", *words)
    assert (status, "MAS_PROVIDER: " in output) == (1, True), output
    provider = mas.provider.id
    status, output = await run(tmp_path, "init", *words, "--mas-provider", provider)
    assert status == 0, output
    assert f"MAS_PROVIDER={provider}" in file.read_text()
    status, output = await run(tmp_path, "check", "--env-file", str(file))
    assert status == 0, output
