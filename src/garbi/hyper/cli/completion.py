"""What the shell offers on Tab: commands and options as the command line has them, ids and names as the server has them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from garbi.base.errors import GarbiError
from garbi.hyper_api.client import HyperClient

FRESH_S = 2.0
STATES = (
    "pending",
    "creating",
    "stopped",
    "starting",
    "running",
    "paused",
    "stopping",
    "failed",
    "unknown",
    "removing",
)
TAKES_IDS = ("start", "stop", "pause", "resume", "rm", "show", "log", "stats")
FLAGS = ("-q", "--quiet", "--no-wait", "--no-start", "--full-copy")
FILTERS = ("id=", "name=", "type=", "image=", "state=", "wish=", "address=", "mem=", "cpus=")


class ShellCompleter(Completer):
    """Completes one line; a server that does not answer offers nothing and disturbs nobody."""

    def __init__(self, url: str, command_tree: Any) -> None:
        self._tree = command_tree
        self._client = HyperClient(url)
        self._known: dict[str, tuple[float, list[str]]] = {}

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Offer what may stand at the cursor."""
        words = _split(document.text_before_cursor)
        if words is None:
            return
        *before, current = words
        if before[:2] == ["images", "add"] and len(before) == 3 and not current.startswith("-"):
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
        return self._values(path, before, current)

    def _values(self, path: list[str], before: list[str], current: str) -> Iterable[str]:
        name, previous = " ".join(path), before[-1]
        of_option = {"-o": _formats, "--output": _formats, "-t": self._drivers, "--type": self._drivers}
        if previous in of_option:
            return of_option[previous]()
        if previous.startswith("-") and previous not in FLAGS:
            return ()
        if name in TAKES_IDS:
            return [each for each in self._ids() if each not in before]
        if name == "list":
            return [f"state={each}" for each in STATES] if current.startswith("state=") else FILTERS
        of_place = {"images rm": self._images, "images build": lambda: ["tiny"], "add": self._images}
        return of_place[name]() if name in of_place and (name != "add" or len(before) == 1) else ()

    def _drivers(self) -> list[str]:
        return self._ask("drivers", lambda: [each["name"] for each in self._client.drivers()])

    def _images(self) -> list[str]:
        return self._ask("images", lambda: [each["name"] for each in self._client.images.list()])

    def _ids(self) -> list[str]:
        return self._ask("ids", lambda: [each["id"] for each in self._client.machines.list()])

    def _ask(self, what: str, fetch: Callable[[], list[str]]) -> list[str]:
        asked, found = self._known.get(what, (-FRESH_S, []))
        if time.monotonic() - asked > FRESH_S:
            try:
                found = fetch()
            except GarbiError:
                found = []
            self._known[what] = (time.monotonic(), found)
        return found


def _formats() -> list[str]:
    return ["table", "json", "yaml"]


def _split(text: str) -> list[str] | None:
    """The words up to the cursor, the last one unfinished; None inside a quotation."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    if not text or text[-1].isspace():
        words.append("")
    return words[1:] if words[0] == "hyper" and len(words) > 1 else words
