"""What fields may be that are not yet bounded where they are named (`garbi.hyper_api.machines`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from garbi.base.errors import InvalidField
from garbi.hyper_api.machines import MAX_LABEL_LENGTH, MAX_LABELS


def check_kinds(spec: object, kinds: Mapping[str, Any]) -> None:
    """Raise InvalidField when a field of `spec` is of another kind than `kinds` says."""
    for field, kind in kinds.items():
        value = getattr(spec, field)
        if not isinstance(value, kind):
            raise InvalidField(field, f"{field} cannot be of the kind {type(value).__name__!r}")


def check_number(field: str, value: int, most: int, least: int = 1) -> None:
    """Raise InvalidField when `value` is no whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        rule = f"{least} to {most}"
        raise InvalidField(field, f"{field} {value!r} is not allowed: it takes {rule}", allowed=rule)


def check_labels(labels: Mapping[str, str], field: str = "labels", most: int = MAX_LABELS) -> None:
    """Raise InvalidField when these labels are more than `most`, or one is too long or cannot be printed."""
    if len(labels) > most:
        raise InvalidField(field, f"{len(labels)} labels are too many", allowed=f"at most {most}")
    rule = f"1 to {MAX_LABEL_LENGTH} printable characters"
    for key, value in labels.items():
        printable = isinstance(key, str) and isinstance(value, str) and (key + value).isprintable()
        if not printable or not (0 < len(key) <= MAX_LABEL_LENGTH and len(value) <= MAX_LABEL_LENGTH):
            raise InvalidField(
                field, f"label {str(key)[:80]!r} is not allowed: key and value take {rule}", allowed=rule
            )
