"""What a node says of itself, as values: from the documents that its agent answers with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from garbi.base.errors import ServerUnreachable
from garbi.iaas.model.node import Amounts, DriverState, Load, Node

Document = Mapping[str, Any]
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node has, how it is loaded, what it runs, and who its agent is."""

    has: Amounts
    load: Load
    architecture: str
    drivers: tuple[DriverState, ...]
    versions: Mapping[str, str]
    cluster_id: str
    boot_id: str
    host_mem: int = 0

    def same_as(self, node: Node) -> bool:
        """Whether all but the load is as it was written down."""
        own = (
            self.has,
            self.architecture,
            self.drivers,
            dict(self.versions),
            self.cluster_id,
            self.boot_id,
            self.host_mem,
        )
        return own == (
            node.has, node.architecture, node.drivers, dict(node.versions), node.cluster_id, node.boot_id, node.host_mem,
        )  # fmt: skip


def read_facts(host: Document, drivers: Iterable[Document], foreign_mem: int = 0) -> Facts:
    """Read the documents of a node; raises ServerUnreachable when they are not those of a hyper.

    `foreign_mem` is the memory, in MiB, of machines there that are not this controller's: it is not there to be given away.
    """
    try:
        memory, disk = host["memory"], host["disk"]
        return Facts(
            has=Amounts(
                max(int(host["limits"]["mem"]) - foreign_mem, 0), int(host["cpus"]), int(disk["total_bytes"]) // MIB
            ),
            load=Load(float(host["load_average"]), int(memory["total_mib"]) - int(memory["available_mib"])),
            architecture=str(host["architecture"]),
            drivers=tuple(_driver(each) for each in drivers),
            versions={str(name): str(version) for name, version in host["versions"].items()},
            cluster_id=str(host["cluster_id"]),
            boot_id=str(host["boot_id"]),
            host_mem=int(memory["total_mib"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerUnreachable(f"what answers there is not a hyper of this version: {error!r}") from error


def _driver(document: Document) -> DriverState:
    return DriverState(
        name=str(document["name"]),
        available=document["available"] is True,
        reason=str(document["reason"]),
        version=str(document["version"]),
        abilities=tuple(str(each) for each in document["abilities"]),
        image_types=tuple(str(each) for each in document["image_types"]),
    )
