"""hyper, the agent of a host, as a Python model.

    from garbi import hyper

    machine = hyper.add_machine({"image": "tiny", "mem": 128, "ports": [{"node_port": 8080, "machine_port": 80}]})
    hyper.stop_machine(machine.id)
    hyper.remove_machine(machine.id)

The functions work in this process on the default data directory (see `garbi.hyper.settings`), which only one agent can have
open: where `hyper serve` runs, speak to it with `garbi.hyper_api.client` instead. Each verb waits until the host has done it.
`open_agent` opens an agent on another directory. Errors are those of `garbi.base.errors`.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line passes through here: nothing heavy is imported before it is used
    from garbi.hyper.agent.agent import Agent, DriverStatus
    from garbi.hyper.model.machine import Machine, MachineSpec

__all__ = [
    "add_machine",
    "list_drivers",
    "list_machines",
    "open_agent",
    "remove_machine",
    "start_machine",
    "stop_machine",
]

WAIT_S = 120.0

_lock = threading.Lock()
_agent: Agent | None = None


def open_agent(**overrides: Any) -> Agent:
    """Open an agent in this process; `overrides` are fields of `garbi.hyper.settings.Settings`. The caller closes it."""
    from garbi.hyper.main import open_agent
    from garbi.hyper.settings import Settings

    return open_agent(Settings.from_environment(**overrides))


def list_drivers() -> list[DriverStatus]:
    """Every installed driver: available or why not, version, abilities."""
    return _default().list_drivers()


def add_machine(spec: MachineSpec | Mapping[str, Any]) -> Machine:
    """Make a machine, running unless its spec says otherwise. Raises as `garbi.hyper.agent.machines.Machines.add`."""
    from garbi.hyper_api.machines import MachineSpec
    from garbi.web.bodies import read

    asked = spec if isinstance(spec, MachineSpec) else read(MachineSpec, spec)
    return _settled(_default().machines.add(asked))


def start_machine(machine_id: str) -> Machine:
    """Start a stopped machine, or resume a paused one; raises NotFound, AlreadyInState."""
    from garbi.hyper.model.machine import Wish

    return _settled(_default().machines.wish(machine_id, Wish.RUNNING))


def stop_machine(machine_id: str) -> Machine:
    """Ask a machine to end, and power it off when it does not in time; raises NotFound, AlreadyInState."""
    from garbi.hyper.model.machine import Wish

    return _settled(_default().machines.wish(machine_id, Wish.STOPPED))


def remove_machine(machine_id: str) -> None:
    """Remove a machine and all that belongs to it; raises NotFound."""
    agent = _default()
    agent.machines.remove(machine_id)
    agent.machines.wait_settled(machine_id, WAIT_S)


def list_machines(query: Mapping[str, str] | None = None) -> list[Machine]:
    """The machines whose fields equal those of `query`; raises UnknownFilter."""
    from garbi.hyper.model.query import MachineQuery

    return _default().machines.list(MachineQuery(dict(query or {})))


def _default() -> Agent:
    global _agent  # noqa: PLW0603 - one agent per process is what the data directory allows
    with _lock:
        if _agent is None:
            _agent = open_agent()
            atexit.register(_agent.close)
        return _agent


def _settled(machine: Machine) -> Machine:
    return _default().machines.wait_settled(machine.id, WAIT_S) or machine
