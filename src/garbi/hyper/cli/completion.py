"""What the shell of hyper offers on Tab: ids and names as the server has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from garbi.hyper_api.client import HyperClient
from garbi.terminal.completion import ShellCompleter, formats

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
RESTARTS = ("no", "on-failure", "always")
FLAGS = ("-q", "--quiet", "--no-wait", "--no-start", "--full-copy", "--witness")
FILTERS = ("id=", "name=", "type=", "image=", "state=", "wish=", "address=", "mem=", "cpus=")


class HyperCompleter(ShellCompleter):
    """Completes commands of hyper."""

    program = "hyper"
    takes_path = ("images", "add")

    def __init__(self, client: HyperClient, command_tree: Any) -> None:
        super().__init__(command_tree)
        self._client = client

    def values(self, path: list[str], before: list[str], current: str) -> Iterable[str]:
        """The words that may follow."""
        name, previous = " ".join(path), before[-1]
        of_option = {"-o": formats, "--output": formats, "-t": self._drivers, "--type": self._drivers}
        of_option["--restart"] = lambda: [*RESTARTS]
        if previous in of_option:
            return of_option[previous]()
        if previous.startswith("-") and previous not in FLAGS:
            return ()
        if name in TAKES_IDS:
            return [each for each in self._ids() if each not in before]
        if name == "list":
            return [f"state={each}" for each in STATES] if current.startswith("state=") else FILTERS
        of_place = {
            "images rm": self._images,
            "kept rm": self._kept,
            "images build": lambda: ["tiny"],
            "add": self._images,
        }
        return of_place[name]() if name in of_place and (name != "add" or len(before) == 1) else ()

    def _drivers(self) -> list[str]:
        return self.ask("drivers", lambda: [each["name"] for each in self._client.drivers()])

    def _images(self) -> list[str]:
        return self.ask("images", lambda: [each["name"] for each in self._client.images.list()])

    def _kept(self) -> list[str]:
        return self.ask("kept", lambda: [each["name"] for each in self._client.kept.list()])

    def _ids(self) -> list[str]:
        return self.ask("ids", lambda: [each["id"] for each in self._client.machines.list()])
