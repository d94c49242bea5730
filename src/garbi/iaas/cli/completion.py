"""What the shell of iaas offers on Tab: nodes, images and machines as the controller has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from garbi.iaas_api.client import IaasClient
from garbi.terminal.completion import ShellCompleter, formats

NODE_STATES = ("adding", "ready", "draining", "unreachable", "unavailable", "failed", "removing")
MACHINE_STATES = (
    "pending", "creating", "stopped", "starting", "running", "paused", "stopping", "failed", "unknown", "removing",
)  # fmt: skip
IMAGE_STATES = ("queued", "uploading", "active", "failed")
IMAGE_TYPES = ("qcow2", "raw", "docker", "rootfs")
CHOICES = {
    "--on-node-failure": ("stay", "recreate"),
    "--strategy": ("spread", "pack", "load"),
    "--restart": ("no", "on-failure", "always"),
}
FLAGS = (
    "-q", "--quiet", "--no-wait", "--no-start", "--full-copy", "--explain", "--force", "--no-provision", "--allow-remote",
    "--no-fence-agent", "--witness", "--live-restore", "--no-live-restore",
)  # fmt: skip
FILTERS = {
    "node ls": (("name=", "address=", "state=", "reason=", "architecture="), NODE_STATES),
    "img ls": (("name=", "type=", "size=", "sha256=", "state="), IMAGE_STATES),
    "vm ls": (
        ("id=", "name=", "type=", "image=", "node=", "state=", "wish=", "address=", "mem=", "cpus="),
        MACHINE_STATES,
    ),
}
TAKES_NODES = ("node rm", "node drain", "node undrain", "node confirm-dead", "node test-fence")
TAKES_ONE_NODE = ("node show", "node add", "node set", "node what-if")
TAKES_IDS = ("vm start", "vm stop", "vm pause", "vm resume", "vm rm", "vm stats")
TAKES_ONE_ID = ("vm show", "vm log")


class IaasCompleter(ShellCompleter):
    """Completes commands of iaas."""

    program = "iaas"
    takes_path = ("img", "add")

    def __init__(self, client: IaasClient, command_tree: Any) -> None:
        super().__init__(command_tree)
        self._client = client

    def values(self, path: list[str], before: list[str], current: str) -> Iterable[str]:
        """The words that may follow."""
        name, previous = " ".join(path), before[-1]
        option = self._of_option(name, previous)
        if option is not None:
            return option
        if previous.startswith("-") and previous not in FLAGS:
            return ()
        if name in FILTERS:
            filters, states = FILTERS[name]
            return [f"state={each}" for each in states] if current.startswith("state=") else filters
        return self._of_place(name, before)

    def _of_option(self, name: str, option: str) -> Iterable[str] | None:
        """What may follow an option; None when it is none that is known."""
        if option in CHOICES:
            return CHOICES[option]
        fetch: dict[str, Callable[[], Iterable[str]]] = {
            "-o": formats,
            "--output": formats,
            "-n": self._nodes,
            "--node": self._nodes,
            "-t": lambda: IMAGE_TYPES if name == "img add" else self._types(),
            "--type": lambda: IMAGE_TYPES if name == "img add" else self._types(),
        }
        return fetch[option]() if option in fetch else None

    def _of_place(self, name: str, before: list[str]) -> Iterable[str]:
        first = len(before) == 2
        if name in TAKES_NODES or (name in TAKES_ONE_NODE and first):
            return [each for each in self._nodes() if each not in before]
        if name in TAKES_IDS or (name in TAKES_ONE_ID and first):
            return [each for each in self._ids() if each not in before]
        if name == "img rm" or (name == "vm add" and first):
            return [each for each in self._images() if each not in before]
        return ()

    def _nodes(self) -> list[str]:
        return self.ask("nodes", lambda: [each["name"] for each in self._client.nodes.list()])

    def _types(self) -> list[str]:
        """The types of machine that some node runs."""
        return self.ask("types", lambda: sorted({
            driver["name"] for node in self._client.nodes.list() for driver in node["drivers"] if driver["available"]
        }))  # fmt: skip

    def _images(self) -> list[str]:
        return self.ask("images", lambda: [each["name"] for each in self._client.images.list()])

    def _ids(self) -> list[str]:
        return self.ask("ids", lambda: [each["id"] for each in self._client.machines.list()])
