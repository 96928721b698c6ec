"""Structured logs: one line an event, fields not sentences."""

import logging
import sys
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from scim_matrix import problems

# What a client does wrong, as far as aiohttp itself finds out: framing, heads, broken connections.
_CLIENTS_MISTAKES = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


def set_up(level: str, log_format: str | None) -> None:
    """Log to standard error: `console` or `json`, by default as the terminal suggests.

    No traceback shows the values of local variables: they hold secrets and payloads.
    """
    console = log_format == "console" or (log_format is None and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.stdlib.ExtraAdder(allow=["error"]),
    ]
    structlog.configure(
        processors=[
            *shared,
            _with_code,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                exception_formatter=structlog.dev.plain_traceback,
                # Else a path with control characters would reach the terminal as it is.
                repr_native_str=True,
            )
        ]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # aiosqlite logs every statement with its values.
    for name in ("aiosqlite", "asyncio", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # nio logs whole bodies at DEBUG, and warns of answers that we judge and tell of ourselves.
    logging.getLogger("nio").setLevel(logging.CRITICAL)
    # A cookie that cannot be opened is a client's, or one of before the last start.
    logging.getLogger("aiohttp_session").setLevel(logging.ERROR)
    logging.getLogger("aiohttp.server").addFilter(one_line_for_clients_mistakes)


def _with_code(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Give a line that tells of a problem its code, by which docs/problems.md explains it."""
    code = problems.of_event(str(line.get("event")), line)
    return line if code is None else {**line, "code": code}


def one_line_for_clients_mistakes(record: logging.LogRecord) -> bool:
    """Make of what a client did wrong one line at info, without the traceback (a log filter).

    The line names the kind of mistake only: aiohttp's text repeats what was sent.
    """
    mistake = record.exc_info[1] if record.exc_info else None
    if not isinstance(mistake, _CLIENTS_MISTAKES):
        return True
    record.levelno, record.levelname = logging.INFO, "INFO"
    record.msg, record.args, record.exc_info = "malformed_request", (), None
    record.error = type(mistake).__name__
    return logging.getLogger(record.name).isEnabledFor(logging.INFO)
