"""The marks by which one agent knows what it made at libvirt: names that begin alike, and ids derived from the cluster id.

A name alone proves nothing, anybody may choose it. The UUID of a domain, network or pool of ours follows from the whole
cluster id, which is random, so that what carries it was made by this agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5


@dataclass(frozen=True, slots=True)
class Marks:
    """Names and UUIDs of everything that the agent with this cluster id makes."""

    cluster_id: str

    @property
    def prefix(self) -> str:
        """The name of the agent's network and pool; names of its domains begin with it."""
        return f"garbi-{self.cluster_id[:8]}"

    @property
    def bridge(self) -> str:
        """The name of the bridge, within the 15 characters that the kernel allows."""
        return f"gb{self.cluster_id[:8]}"

    def domain_name(self, machine_id: str) -> str:
        return f"{self.prefix}-{machine_id}"

    def domain_uuid(self, machine_id: str) -> str:
        return self._uuid(f"machine/{machine_id}")

    @property
    def network_uuid(self) -> str:
        return self._uuid("network")

    @property
    def pool_uuid(self) -> str:
        return self._uuid("pool")

    def machine_of(self, name: str, uuid: str) -> str | None:
        """The id of the machine that a domain of this name and UUID is; None when it is not ours."""
        machine_id = name.removeprefix(f"{self.prefix}-")
        ours = machine_id != name and uuid == self.domain_uuid(machine_id)
        return machine_id if ours else None

    def _uuid(self, what: str) -> str:
        return str(uuid5(UUID(self.cluster_id), what))
