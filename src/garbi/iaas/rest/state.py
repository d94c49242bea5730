"""What all endpoints share: the controller, and the places of its server."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request, Response

from garbi.iaas.controller import Controller
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.operation import Operation
from garbi.web.places import Places
from garbi.web.preferences import Patience


class ServerState(Places):
    """One server's controller and its places. A silent event stream speaks every `keep_alive_s` seconds."""

    def __init__(self, controller: Controller, keep_alive_s: float) -> None:
        super().__init__(keep_alive_s)
        self.controller = controller

    def settled(self, machine: Machine, patience: Patience, response: Response) -> Machine | None:
        """The machine once it settled, or as it is when patience or the places to wait end; None when it is gone."""

        def look(wait_s: float) -> Machine | None:
            return self.controller.machines.wait_settled(machine.id, wait_s)

        return self.wait(machine, look, lambda found: found is None or found.settled, patience, response)

    def changed(self, operation: Operation, since: datetime, patience: Patience, response: Response) -> Operation:
        """The operation once it changed after `since`, or as it is when patience or the places to wait end."""

        def look(wait_s: float) -> Operation:
            return self.controller.operations.wait_changed(operation.id, since, wait_s)

        return self.wait(operation, look, lambda found: found.updated_at != since, patience, response)

    def finished(self, operation: Operation, patience: Patience, response: Response) -> Operation:
        """The operation once it finished, or as it is when patience or the places to wait end."""

        def look(wait_s: float) -> Operation:
            return self.controller.operations.wait_changed(operation.id, None, wait_s)

        return self.wait(operation, look, lambda found: found.finished_at is not None, patience, response)


async def _state_of(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


async def _controller_of(request: Request) -> Controller:
    return (await _state_of(request)).controller


Server = Annotated[ServerState, Depends(_state_of)]
ControllerOf = Annotated[Controller, Depends(_controller_of)]
