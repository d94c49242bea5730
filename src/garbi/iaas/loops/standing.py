"""What is written down of a node that answers, when it is news: that it does, its load, what it says of its disk and its host."""

from __future__ import annotations

from garbi.base.clock import Clock
from garbi.iaas.model.node import Load, Node
from garbi.iaas.store import nodes
from garbi.iaas.store.database import Database

SEEN_EVERY_S = 10.0
"""How often it is written down that a node answers of which nothing else has changed."""

WORDS = 300
"""Characters of what a node says of its disk that are written down."""


class Standing:
    """The notes about one node; for one thread."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._written_at = float("-inf")

    def written(self) -> None:
        """Somebody has just written that it answers."""
        self._written_at = self._clock.monotonic()

    def note(self, node: Node, load: Load, unwritable: str, going_down: bool) -> None:
        """It answers so."""
        now, words = self._clock.now(), unwritable[:WORDS]
        if (words, going_down) != (node.unwritable, node.leaving_at is not None):
            leaving_at = (node.leaving_at or now) if going_down else None
            with self._database.write() as transaction:
                nodes.note_condition(transaction, node.name, words, leaving_at, now)
        if self._clock.monotonic() - self._written_at >= SEEN_EVERY_S:
            with self._database.write() as transaction:
                nodes.note_seen(transaction, node.name, load, now)
            self.written()
