"""How long that may be by which resources are found: what an index of any database takes (pure)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from scim2_models import InvalidValueException

from scim_matrix.store.text import TOO_LONG, composed, folded, is_too_long

_FOLDED = ("userName", "displayName")


def check_resource(
    document: Mapping[str, Any],
    former: Mapping[str, Any],
    subject: str,
    subjects: Sequence[str | None],
) -> None:
    """Raise InvalidValueException, naming the attribute, where a new value is too long.

    What was there before stays: nobody keeps their access because of a name that is kept already.
    `subject` is the attribute that the SSO subject is, and `subjects` the new and the former one.
    """
    kept = {value for _, value in _indexed(former)}
    now, before = subjects
    found = [*_indexed(document), *([(subject, now)] if now is not None else [])]
    for attribute, value in found:
        if value not in kept and value != before and is_too_long(value):
            raise InvalidValueException(detail=f"{attribute}: {TOO_LONG}")


def _indexed(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the attributes that are indexed, and each as it is."""
    if (external_id := document.get("externalId")) is not None:
        yield "externalId", composed(external_id)
    for name in _FOLDED:
        if (value := document.get(name)) is not None:
            yield name, folded(value)
    for number, email in enumerate(document.get("emails") or ()):
        if email.get("value") is not None:
            yield f"emails[{number}].value", folded(email["value"])


def check_members(entries: Iterable[Mapping[str, Any]]) -> None:
    """Raise InvalidValueException, naming the entry, where a member's value is too long."""
    for number, entry in enumerate(entries):
        if is_too_long(entry["value"]):
            raise InvalidValueException(detail=f"members[{number}].value: {TOO_LONG}")
