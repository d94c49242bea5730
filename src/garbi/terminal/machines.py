"""Machines in words: of a host and of a cloud alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from garbi.base.errors import AbilityMissing, Conflict, NotFound
from garbi.terminal.output import Column, Document, field, on_terminal, plain, size_text


def ports_text(document: Document) -> str:
    """The published ports in the form that `-p` takes."""
    return ",".join(
        f"{port['node_port']}:{port['machine_port']}{'' if port['protocol'] == 'tcp' else '/udp'}"
        for port in document["ports"]
    )


def check(machine: Document, wished: str, waited: bool, show: str) -> None:
    """Raise Conflict when a machine did not become what was wished of it; `show` is the command that says more of it."""
    if not waited or machine["state"] == wished:
        return
    if not machine["settled"]:
        raise Conflict(f"{machine['id']} is still {machine['state']}; it goes on: see `{show} {machine['id']}`")
    raise Conflict(f"{machine['id']} is {machine['state']}: {machine['reason'] or 'for no reason known'}")


def describe(machine: Document, node: str = "") -> str:
    """One line about a machine; `node` is where it is, among several."""
    ports = ports_text(machine)
    facts = [machine["type"], node and f"on {node}", machine["address"], ports and f"ports {ports}"]
    return f"{machine['id']} is {machine['state']} ({', '.join(plain(fact) for fact in facts if fact)})"


class Measured(Protocol):
    """Machines whose figures can be asked for."""

    def list(self, filters: dict[str, str]) -> list[Document]:
        """The machines whose fields equal the filters."""

    def figures(self, id: str) -> Document:
        """Live figures of a running machine."""


def measure(machines: Measured, ids: Sequence[str], interval_s: float) -> list[Document]:
    """The figures of these machines, of all that run when there are none, with the CPU used over so many seconds."""
    wanted = ids or tuple(machine["id"] for machine in machines.list({"state": "running"}))

    def look(id: str) -> tuple[float, Document] | None:
        """The figures of a machine; None when it has none and was not asked for by its id."""
        try:
            return time.monotonic(), machines.figures(id)
        except (AbilityMissing, Conflict, NotFound):
            if ids:
                raise
            return None

    first = {id: found for id in wanted if (found := look(id))}
    time.sleep(interval_s if first else 0)
    second = {id: found for id in first if (found := look(id))}
    return [with_cpu(*first[id], *second[id]) for id in second]


def with_cpu(began: float, before: Document, ended: float, after: Document) -> Document:
    """The later figures with the share of a processor that was used meanwhile."""
    used = (after["cpu_seconds"] - before["cpu_seconds"]) / (ended - began)
    return {**after, "cpu_percent": round(100 * used, 1)}


def _size(name: str) -> Callable[[Document], str]:
    return lambda document: size_text(document[name]) if on_terminal() else plain(document[name])


FIGURE_COLUMNS = (
    Column("id", field("id")),
    Column("cpu %", field("cpu_percent")),
    Column("cpu s", lambda document: f"{document['cpu_seconds']:.1f}"),
    Column("memory", _size("memory_bytes")),
    Column("disk read", _size("disk_read_bytes")),
    Column("disk written", _size("disk_written_bytes")),
    Column("net in", _size("network_received_bytes")),
    Column("net out", _size("network_sent_bytes")),
)
