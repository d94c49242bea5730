"""A node: a host that runs hyper, known to the controller by a name; what it has, and what of it is spoken for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from garbi.base.transitions import Transition, TransitionTable
from garbi.iaas.model.power import PowerChange
from garbi.iaas_api.nodes import Amounts as Amounts
from garbi.iaas_api.nodes import DriverState as DriverState
from garbi.iaas_api.nodes import Load as Load
from garbi.iaas_api.nodes import NodeFacts
from garbi.iaas_api.nodes import NodeState as NodeState
from garbi.iaas_api.nodes import Overcommit as Overcommit
from garbi.iaas_api.nodes import Ssh as Ssh


class Failure(StrEnum):
    """Why a node is `failed`: what of it has to be mended, and by whom."""

    NONE = ""
    SETUP = "setup"
    """Its host could not be set up: somebody adds it once more, or removes it."""
    AGENT = "agent"
    """Its own agent did not answer as it should, or another one did: it is asked again until that is well."""
    REMOVAL = "removal"
    """It could not be removed: somebody removes it once more."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a user asks for. `host` and `port` are where hyper listens; SSH goes to the same host. A `witness` has no machines.

    `live_restore`: a Docker that is found on the host is set to let containers run on while dockerd restarts, as a new one is.
    """

    name: str
    host: str
    port: int
    provision: bool = True
    ssh: Ssh = field(default_factory=Ssh)
    labels: Mapping[str, str] = field(default_factory=dict)
    overcommit: Overcommit = field(default_factory=Overcommit)
    witness: bool = False
    live_restore: bool = False


@dataclass(frozen=True, slots=True)
class NodeChange:
    """What a user wants otherwise of a node; None leaves it as it is.

    `token` is the secret of its agent, made anew there; `power` is how its host is switched off, `no_power` takes that away.
    """

    token: str | None = field(default=None, repr=False)
    power: PowerChange | None = None
    no_power: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(NodeFacts):
    """A node as the store keeps it: what anybody may see of it, and what only the controller knows.

    `has` is what the host has, `limit` what may be reserved of it (`has` times `overcommit`), `reserved` what machines have
    reserved. `draining` outlives an unreachable time. `seen_at` is when it last answered. `cluster_id` and `boot_id` are those
    of its agent, empty before it was met. `epoch` grows with each new assignment of its machines, `lease` each time they are
    declared dead: orders of an earlier lease have no effect there. `failure` says why it is failed; `touched`, that something of
    ours may be on its host. `host_mem` is the memory of the whole host in MiB, 0 where that is not known.
    A `witness` carries no machines: it is one more voice when another node is not heard. `live_restore` is asked of its
    provisioning alone.
    `unwritable` says why nothing can be written there; `leaving_at` is when it said that its host goes down.
    """

    host: str
    port: int
    reason: str
    has: Amounts
    reserved: Amounts
    cluster_id: str
    boot_id: str
    epoch: int
    lease: int = 1
    failure: Failure = Failure.NONE
    touched: bool = True
    host_mem: int = 0
    live_restore: bool = False
    unwritable: str = ""
    leaving_at: datetime | None = None

    @property
    def address(self) -> str:
        """`host:port` of its hyper."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def words(self) -> str:
        """The reason of its state, or what else there is to say of it."""
        leaving = "" if self.leaving_at is None else f"going down since {self.leaving_at.isoformat(timespec='seconds')}"
        failed = f"it cannot write on its disk: {self.unwritable}" if self.unwritable else ""
        return "; ".join(filter(None, (self.reason, leaving, failed)))

    @property
    def free(self) -> Amounts:
        """What may still be reserved."""
        return self.limit - self.reserved


def _rows() -> tuple[Transition[NodeState], ...]:
    s = NodeState
    met = (s.READY, s.DRAINING)
    rows = [
        (s.ADDING, s.READY, "its agent answers"),
        (s.ADDING, s.FAILED, "provisioning failed"),
        (s.FAILED, s.ADDING, "tried again"),
        *[(s.FAILED, each, "its own agent answers") for each in met],
        (s.FAILED, s.UNREACHABLE, "silence"),
        (s.READY, s.DRAINING, "drain"),
        (s.DRAINING, s.READY, "undrain"),
        *[(each, s.UNREACHABLE, "silence") for each in met],
        *[(s.UNREACHABLE, each, "it answers again") for each in met],
        (s.UNREACHABLE, s.UNAVAILABLE, "a fence is proven"),
        *[(s.UNAVAILABLE, each, "it answers again") for each in met],
        *[(each, s.REMOVING, "node rm") for each in s if each is not s.REMOVING],
        (s.REMOVING, s.FAILED, "removal failed"),
        *[(each, s.FAILED, "another agent answers there") for each in (*met, s.UNREACHABLE, s.UNAVAILABLE)],
    ]
    return tuple(Transition(*row) for row in rows)


TRANSITIONS: TransitionTable[NodeState] = TransitionTable(_rows())
