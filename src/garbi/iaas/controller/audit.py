"""The invariants of DESIGN.md that a controller can check: of its own records, and of what its nodes report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold: which, of what, and how it shows."""

    invariant: str
    subject: str
    detail: str
