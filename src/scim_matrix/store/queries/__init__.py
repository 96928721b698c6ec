"""Whole statements as SQL, each with a name and a sentence: `-- name --`, `-- sentence`, SQL."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def load(name: str) -> Mapping[str, str]:
    """Return the statements of one file of this folder by their names."""
    text = (resources.files(__name__) / f"{name}.sql").read_text("utf-8")
    _, *parts = _HEADING.split(text)
    return dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))
