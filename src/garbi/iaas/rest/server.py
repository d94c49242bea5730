"""Serves a controller over HTTP until it is told to end."""

from __future__ import annotations

from garbi.base.token import TOKEN_FILE
from garbi.iaas.controller import Controller
from garbi.iaas.rest.app import create_app
from garbi.web import server


class Service(server.Service):
    """One controller at one address. A silent event stream speaks every `keep_alive_s` seconds."""

    def __init__(self, controller: Controller, host: str, port: int, keep_alive_s: float = 15.0) -> None:
        app = create_app(controller, keep_alive_s=keep_alive_s)
        super().__init__(app, host, port, app.state.server.close)


def run(controller: Controller, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; port 0 takes a free one. Raises PortTaken, or FinalError for a useless address."""
    service = Service(controller, host, port)
    token = controller.settings.data_dir.absolute() / TOKEN_FILE
    service.run(f"iaas answers at {service.url} until Ctrl-C; machines keep running then. Its token is in {token}")
