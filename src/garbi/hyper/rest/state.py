"""What all endpoints share: the agent, and the places of its server."""

from __future__ import annotations

from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request, Response

from garbi.hyper.agent import Agent
from garbi.hyper.model.machine import Machine
from garbi.web.places import Places
from garbi.web.preferences import Patience

RENEWALS = 4
"""Threads for renewals of leases alone, which no other request may hold up."""


class ServerState(Places):
    """One server's agent and its places. A silent event stream speaks every `keep_alive_s` seconds."""

    def __init__(self, agent: Agent, keep_alive_s: float) -> None:
        super().__init__(keep_alive_s)
        self.agent = agent
        self.renewals = CapacityLimiter(RENEWALS)

    def settled(self, machine: Machine, patience: Patience, response: Response) -> Machine | None:
        """The machine once it settled, or as it is when patience or the places to wait end; None when it is gone."""

        def look(wait_s: float) -> Machine | None:
            return self.agent.machines.wait_settled(machine.id, wait_s)

        return self.wait(machine, look, lambda found: found is None or found.settled, patience, response)


async def _state_of(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


async def _agent_of(request: Request) -> Agent:
    return (await _state_of(request)).agent


Server = Annotated[ServerState, Depends(_state_of)]
AgentOf = Annotated[Agent, Depends(_agent_of)]
