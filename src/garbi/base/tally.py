"""Counts of what happened since a process began: who does something counts it, /metrics tells of it."""

from __future__ import annotations

import threading
from collections import Counter


class Tally:
    """Numbers by a name and the values of its labels. Safe to use from several threads; what was never counted is 0."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[tuple[str, ...]]] = {}

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Add to what was counted of `name` with these values of its labels."""
        with self._lock:
            self._counts.setdefault(name, Counter())[labels] += by

    def read(self, name: str) -> dict[tuple[str, ...], int]:
        """What was counted of `name`, by the values of its labels."""
        with self._lock:
            return dict(self._counts.get(name, {}))
