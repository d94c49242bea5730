"""Where the pretended daemon keeps what machines were, once they are gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from garbi.base.errors import Conflict
from garbi.hyper.drivers.fake.machine import FakeMachine
from garbi.hyper.drivers.fake.shelf import Shelf


class Attic:
    """Machines that were set aside, by the key where they are kept, whoever made them."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def all(self) -> list[FakeMachine]:
        """Every machine that was set aside."""
        return [FakeMachine.from_json(text) for text in self._shelf.all("kept")]

    def set_aside(self, key: str, kept_key: str, fit: Callable[[FakeMachine], bool]) -> FakeMachine | None:
        """Keep the machine of that key under `kept_key`, in one go, if it is `fit`; return what is kept there afterwards.

        `fit` may raise: then nothing is changed. Raises Conflict when `kept_key` is another's.
        """
        with self._shelf.exclusive():
            machine, kept = self._read("machine", key), self._read("kept", kept_key)
            if machine is None or not fit(machine):
                return kept
            if kept is not None:
                raise Conflict(f"something else is kept as {kept_key}")
            kept = replace(machine, key=kept_key)
            self._shelf.put("kept", kept_key, kept.to_json())
            self._shelf.drop("machine", key)
            return kept

    def drop(self, kept_key: str) -> None:
        """Forget what was set aside there."""
        self._shelf.drop("kept", kept_key)

    def _read(self, kind: str, key: str) -> FakeMachine | None:
        text = self._shelf.get(kind, key)
        return FakeMachine.from_json(text) if text is not None else None
