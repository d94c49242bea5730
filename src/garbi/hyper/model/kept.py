"""The disk of a machine that is gone: where it is, whose it was, and for how long it stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from garbi.hyper_api.kept import KeptFacts

EPOCH_LABEL = "garbi.epoch"
"""Says which of the copies of a machine this one is: it grows each time that the machine is placed anew."""

LONGEST_KEEP_S = 10 * 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class KeptDisk:
    """A disk set aside by a driver: `place` is where a user finds it (a path, a container's name), `size` its own bytes."""

    place: str
    size: int


@dataclass(frozen=True, slots=True)
class Kept(KeptFacts):
    """A kept disk as the store has it: `age_s` of its seconds have passed while the agent ran."""

    age_s: int

    @property
    def left_s(self) -> int:
        """Seconds that it stays, while the agent runs."""
        return max(self.keep_s - self.age_s, 0)


def epoch_of(labels: Mapping[str, str]) -> int:
    """The epoch that the labels of a machine name; 0 where they name none."""
    return epoch_in(labels.get(EPOCH_LABEL, ""))


def epoch_in(text: str) -> int:
    """The epoch that is written there; 0 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0
