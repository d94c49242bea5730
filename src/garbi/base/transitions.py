"""Transitions as a table: which state may follow which, and why; the documentation draws it from the same table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=str)


@dataclass(frozen=True, slots=True)
class Transition(Generic[S]):
    """One allowed change of state and what causes it."""

    source: S
    target: S
    cause: str


@dataclass(frozen=True)
class TransitionTable(Generic[S]):
    """All allowed changes of state of one kind of thing."""

    rows: tuple[Transition[S], ...]

    def allows(self, source: S, target: S) -> bool:
        """Whether `target` may follow `source`; staying is always allowed."""
        return source == target or any(row.source == source and row.target == target for row in self.rows)

    def to_mermaid(self) -> str:
        """The table as a Mermaid state diagram."""
        lines = [f"    {row.source} --> {row.target}: {row.cause}" for row in self.rows]
        return "\n".join(["stateDiagram-v2", *lines])
