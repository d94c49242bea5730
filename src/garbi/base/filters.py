"""Which fields a list may be asked for: one rule for every list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from garbi.base.errors import UnknownFilter


def check_filters(asked: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise UnknownFilter, which names them, when a list is asked for by a field that it does not have."""
    unknown = sorted(set(asked) - set(allowed))
    if unknown:
        names = ", ".join(allowed)
        raise UnknownFilter(
            f"no filter is called {unknown[0]!r}; there are: {names}", field=unknown[0], allowed=list(allowed)
        )


def shown(value: Any) -> str:
    """A value as filters name it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
