"""What is shown of a machine while it is waited for: its state and, while its image travels, how far that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from garbi.base.errors import GarbiError
from garbi.iaas.cli.operations import share_of
from garbi.terminal.output import Document, plain
from garbi.terminal.progress import settle, state_of

if TYPE_CHECKING:
    from garbi.iaas_api.client import IaasClient

Ask = Callable[[float], Document | None]


def settled(client: IaasClient, wait: bool, ask: Ask) -> Document | None:
    """Ask for something of a machine, and return it as it is afterwards; None when it is gone."""
    return settle(client.machines.get, wait, ask, lambda machine: _tell(client, machine))


def _tell(client: IaasClient, machine: Document) -> str:
    """A machine in a line, with what its operation says."""
    try:
        operation = client.operations.get(plain(machine.get("operation")))
    except GarbiError:
        operation = None
    if operation is None or operation.get("state") != "running" or not plain(operation.get("message")):
        return state_of(machine)
    share = share_of(operation)
    how_far = f" {share:.0%}" if 0 < share < 1 else ""
    return f"{state_of(machine)}: {plain(operation.get('message'))}{how_far}"
