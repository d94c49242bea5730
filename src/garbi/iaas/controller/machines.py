"""Machines, as a user asks for them: what is refused, what is written down, and the wait for what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping

from garbi.base.calls import Document
from garbi.base.errors import GarbiError
from garbi.hyper_api.vocabulary import Wish
from garbi.iaas.model.machine import Machine, MachineSpec
from garbi.iaas.scheduler import Explanation


class Machines:
    """The verbs of machines. Each writes the wish and returns at once; the nodes do the rest."""

    def add(self, spec: MachineSpec, idempotency_key: str | None = None) -> Machine:
        """Accept a new machine: it has its id, node, ports and reservation when this returns, and will be made.

        With `idempotency_key`, a second call returns the machine of the first. Raises InvalidField, UnknownImage,
        UnknownType, AlreadyExists, PortTaken, NothingFits, NoSpace; nothing is kept of what was refused.
        """
        raise NotImplementedError

    def explain(self, spec: MachineSpec) -> Explanation:
        """Where a machine would be put, and each node's verdict; nothing is placed."""
        raise NotImplementedError

    def wish(self, machine_id: str, wish: Wish) -> Machine:
        """Wish a machine running, stopped or paused. A wish that is already being fulfilled changes nothing.

        Raises NotFound, AlreadyInState when it is so already, AbilityMissing, Conflict when it cannot be from here.
        """
        raise NotImplementedError

    def remove(self, machine_id: str) -> Machine:
        """Wish a machine away, whatever it is doing. Raises NotFound when it is gone."""
        raise NotImplementedError

    def withdraw(self, machine_id: str) -> GarbiError | None:
        """Forget a machine that its node refused; return the refusal, for the one who waited. None when there was none."""
        raise NotImplementedError

    def get(self, machine_id: str) -> Machine:
        """The machine with that id; raises NotFound, which says when it was removed if it was."""
        raise NotImplementedError

    def list(
        self, filters: Mapping[str, str] | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[Machine]:
        """The machines whose fields equal the filters, the oldest first; raises UnknownFilter."""
        raise NotImplementedError

    def wait_settled(self, machine_id: str, timeout_s: float) -> Machine | None:
        """Wait until its node has done what was last wished of a machine; return it, or None when it is gone.

        After `timeout_s` seconds return it as it is.
        """
        raise NotImplementedError

    def console_log(self, machine_id: str, limit: int) -> bytes:
        """The last `limit` bytes of a machine's console; raises NotFound, AbilityMissing, ServerUnreachable."""
        raise NotImplementedError

    def figures(self, machine_id: str) -> Document:
        """Live figures of a running machine, as its node tells them; raises NotFound, AbilityMissing, Conflict."""
        raise NotImplementedError
