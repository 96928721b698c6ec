"""The settings that init finds in place: what of them it keeps, and what becomes of the rest."""

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import dotenv
from dotenv.parser import parse_stream

from scim_matrix.config import SECRETS

# What goes with the homeserver that was answered: not kept where it does not say it.
_OF_SERVER = {"MATRIX_SERVER_NAME", "MATRIX_ADMIN_USER_ID", "MAS_URL", "MAS_CLIENT_ID"}
_OF_SERVER |= {"MAS_CLIENT_SECRET", "MAS_PROVIDER"}
_HEAD = "# Made by scim-matrix init. Settings: docs/settings.md; secrets are beside this.\n"


@dataclass(frozen=True)
class Former:
    """The text of a file, the settings in it, and the secrets that it has, names or lies beside."""

    text: str = _HEAD
    lines: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """All that is set, secrets included."""
        return {**self.lines, **self.secrets}

    def left(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the settings that there will be: those answered, and what is not asked."""
        kept = {name: v for name, v in self.settings.items() if name not in _OF_SERVER}
        left = {name: value for name, value in {**kept, **settings}.items() if value}
        for name in SECRETS:
            if name in left and not self.names_file_of(name, left[name]):
                left.pop(f"{name}_FILE", None)
        return left

    def names_file_of(self, name: str, value: str) -> bool:
        """Tell whether a secret is in a file that the settings name, and stays what it is."""
        return f"{name}_FILE" in self.lines and self.secrets.get(name) == value

    def rewritten(self, left: Mapping[str, str]) -> str:
        """Return the text with other settings; comments, and lines that stay true, stay."""
        told = {name: value for name, value in left.items() if name not in SECRETS}
        parts = []
        for binding in parse_stream(StringIO(self.text)):
            name = binding.key
            if name is None or (name in told and binding.value == told[name]):
                parts.append(binding.original.string)
            elif name in told and name not in SECRETS:
                parts.append(f"{name}={told[name]}\n")
        text = "".join(parts)
        added = [f"{name}={told[name]}\n" for name in told if name not in self.lines]
        return "".join([text, "" if not text or text.endswith("\n") else "\n", *added])

    def told(self, left: Mapping[str, str]) -> Iterator[str]:
        """Return what became of what was there, line by line; no secret."""
        before = self.settings
        kept = []
        for name, value in before.items():
            if name not in left:
                yield f"taken out: {name}"
            elif left[name] == value:
                kept.append(name)
            else:
                became = "" if name in SECRETS else f", which was {value}"
                yield f"changed: {name}{became}"
        added = [name for name in left if name not in before]
        if added:
            yield f"added: {', '.join(added)}"
        if kept:
            yield f"kept: {', '.join(kept)}"


def read(target: Path) -> Former:
    """Return what a file and the secrets beside it have. Raises OSError, UnicodeDecodeError."""
    text = target.read_text("utf-8") if target.exists() else _HEAD
    values = dotenv.dotenv_values(stream=StringIO(text), interpolate=False)
    lines = {name: value for name, value in values.items() if value}
    found = {name: lines.get(name) or _secret(lines, name, target.parent) for name in SECRETS}
    return Former(text, lines, {name: value for name, value in found.items() if value})


def _secret(lines: Mapping[str, str], name: str, folder: Path) -> str | None:
    """Return a secret of a file; None where it is elsewhere, as within a container."""
    with suppress(OSError, UnicodeDecodeError):
        return Path(lines.get(f"{name}_FILE") or folder / name.lower()).read_text("utf-8").strip()
    return None


def put(files: Mapping[Path, str]) -> Iterable[Path]:
    """Write files for their owner alone; return copies of those that were there. Raises OSError."""
    stamp = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    copies = []
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            copies.append(path.with_name(f"{path.name}.{stamp}"))
            _write(copies[-1], path.read_text("utf-8"))
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        _write(fresh, text)
        fresh.replace(path)
    return copies


def _write(path: Path, text: str) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
