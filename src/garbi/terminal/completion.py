"""What the shell offers on Tab: commands and options as the command line has them, ids and names as the server has them."""

from __future__ import annotations

import shlex
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from garbi.base.errors import GarbiError

FRESH_S = 2.0


class ShellCompleter(Completer):
    """Completes one line; a server that does not answer offers nothing and disturbs nobody.

    `takes_path` are the words after which the name of a file is expected, following one more word.
    """

    program: ClassVar[str]
    takes_path: ClassVar[tuple[str, ...]]

    def __init__(self, command_tree: Any) -> None:
        self._tree = command_tree
        self._known: dict[str, tuple[float, list[str]]] = {}

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Offer what may stand at the cursor."""
        words = split_words(document.text_before_cursor, self.program)
        if words is None:
            return
        *before, current = words
        if tuple(before[:2]) == self.takes_path and len(before) == 3 and not current.startswith("-"):
            yield from PathCompleter(expanduser=True).get_completions(Document(current), complete_event)
            return
        for offer in self.offers(before, current):
            if offer.startswith(current):
                yield Completion(offer, start_position=-len(current))

    def offers(self, before: list[str], current: str) -> Iterable[str]:
        """The words that may follow `before`."""
        command: Any = self._tree
        path: list[str] = []
        for word in before:
            children = getattr(command, "commands", {})
            if word in children:
                command, path = children[word], [*path, word]
        if hasattr(command, "commands"):
            extra = ["help"] if command is self._tree else []
            return sorted([name for name, each in command.commands.items() if not each.hidden] + extra)
        if current.startswith("-"):
            return sorted({option for each in command.params for option in each.opts if option.startswith("-")})
        return self.values(path, before, current)

    @abstractmethod
    def values(self, path: list[str], before: list[str], current: str) -> Iterable[str]:
        """The words that may follow the words `before`, of which `path` are commands."""

    def ask(self, what: str, fetch: Callable[[], list[str]]) -> list[str]:
        """What the server says, fetched anew after a while."""
        asked, found = self._known.get(what, (-FRESH_S, []))
        if time.monotonic() - asked > FRESH_S:
            try:
                found = fetch()
            except GarbiError:
                found = []
            self._known[what] = (time.monotonic(), found)
        return found


def formats() -> list[str]:
    """What `-o` takes."""
    return ["table", "json", "yaml"]


def split_words(text: str, program: str) -> list[str] | None:
    """The words up to the cursor, the last one unfinished; None inside a quotation."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    if not text or text[-1].isspace():
        words.append("")
    return words[1:] if words[0] == program and len(words) > 1 else words
