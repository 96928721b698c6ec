"""What stands in the log, and what never does."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiohttp.http_exceptions import LineTooLong

from scim_matrix.ops.logging import set_up


@pytest.fixture(autouse=True)
def former() -> Iterator[None]:
    """Put logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    logging.getLogger("aiohttp.server").filters.clear()
    structlog.reset_defaults()


PASSWORD = "-".join(("hunter", "two"))


def fail(password: str) -> None:
    """Raise with a secret among the local variables."""
    bearer = password * 2
    raise RuntimeError(f"broken, {len(bearer)} characters")


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_traceback_holds_local_variables(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether we log an exception or a library does, in either format, secrets stay out of it."""
    set_up("debug", log_format)
    try:
        fail(PASSWORD)
    except RuntimeError as error:
        structlog.get_logger("x").error("request_failed", exc_info=error)
        logging.getLogger("aiohttp.server").exception("Error handling request")
    text = capsys.readouterr().err
    assert text.count("broken, 20 characters") == 2
    assert PASSWORD not in text


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_what_clients_do_wrong_is_one_line(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request that is no HTTP is told at info, in one line that repeats nothing of it."""
    set_up("info", log_format)
    server = logging.getLogger("aiohttp.server")
    try:
        raise LineTooLong(b"GET /the-secret-path", 8190)
    except LineTooLong as error:
        server.exception("Error handling request from %s", "192.0.2.1", exc_info=error)
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "malformed_request" in text
    assert "LineTooLong" in text
    assert "the-secret-path" not in text
    set_up("warning", log_format)
    server.exception("Error handling request", exc_info=LineTooLong(b"x", 1))
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """What a client sends is shown, not obeyed: an escape sequence in a path is written out."""
    set_up("info", "console")
    structlog.get_logger("x").info("scim_request", path="/scim/v2/\x1b[2J\nfaked")
    text = capsys.readouterr().err
    assert "\x1b[2J" not in text
    assert "\\x1b[2J\\nfaked" in text


def test_nios_own_warnings_stay_out(capsys: pytest.CaptureFixture[str]) -> None:
    """nio complains of answers with their text; we judge them and tell of them ourselves."""
    set_up("debug", "json")
    logging.getLogger("nio.responses").warning("Error validating response: 'user_id' required")
    structlog.get_logger("x").info("ours")
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "ours"
