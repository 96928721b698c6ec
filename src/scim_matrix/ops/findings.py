"""What a look at the set-up found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it is well, and if not what to do.

    An error is what cannot work; a warning may still come right by itself.
    """

    verdict: Literal["ok", "warning", "error"]
    about: str
    found: str
    cure: str = ""
