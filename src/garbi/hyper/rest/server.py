"""Serves an agent over HTTP until it is told to end."""

from __future__ import annotations

from functools import partial

from garbi.base.token import TOKEN_FILE
from garbi.hyper.agent import Agent
from garbi.hyper.host.shutdown import is_going_down
from garbi.hyper.rest.app import create_app
from garbi.web import server


class Service(server.Service):
    """One agent at one address. A silent event stream speaks every `keep_alive_s` seconds."""

    def __init__(self, agent: Agent, host: str, port: int, keep_alive_s: float = 15.0) -> None:
        app = create_app(agent, keep_alive_s=keep_alive_s)
        super().__init__(app, host, port, app.state.server.close, partial(_take_leave, agent))


def _take_leave(agent: Agent) -> None:
    if is_going_down():
        agent.departure.take()


def run(agent: Agent, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; port 0 takes a free one. Raises PortTaken, or FinalError for a useless address."""
    service = Service(agent, host, port)
    token = agent.settings.data_dir.absolute() / TOKEN_FILE
    service.run(f"hyper answers at {service.url} until Ctrl-C; machines keep running then. Its token is in {token}")
