"""The whole REST service of a host, on one screen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from garbi import __version__
from garbi.hyper.agent import Agent
from garbi.hyper.rest import drivers, events, host, images, kept, leases, machines
from garbi.hyper.rest.leases import LeaseAuthenticator
from garbi.hyper.rest.metrics import new_registry
from garbi.hyper.rest.openapi import DESCRIPTION
from garbi.hyper.rest.state import ServerState
from garbi.web import metrics, page, problems
from garbi.web.gate import Gate
from garbi.web.openapi import describer
from garbi.web.places import MAX_THREADS
from garbi.web.request_metrics import RequestMetrics


def create_app(agent: Agent, host_names: Iterable[str] = (), keep_alive_s: float = 15.0) -> FastAPI:
    """The service for an agent, and for those who show its secret.

    Requests are answered for loopback names, for the address they came in by, and for `host_names`. A silent event stream
    says every `keep_alive_s` seconds that it is alive.
    """
    app = assemble()
    app.state.server = ServerState(agent, keep_alive_s)
    app.state.metrics = new_registry(agent)
    # The last added is the outermost: every answer is counted, and nothing unexpected gets out.
    app.add_middleware(Gate, streamed=_is_content, identify=LeaseAuthenticator(agent), host_names=host_names)
    app.add_middleware(problems.LastResort)
    app.add_middleware(RequestMetrics, service="hyper", registry=app.state.metrics)
    return app


def assemble() -> FastAPI:
    """The routes without an agent behind them: enough to describe the contract."""
    app = FastAPI(
        title="Garbi hyper",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        lifespan=_lifespan,
    )
    for resource in (drivers, machines, images, kept, leases, host, events, metrics, page):
        app.include_router(resource.router)
    problems.install(app)
    app.openapi = describer(app)  # type: ignore[method-assign]
    return app


def _is_content(method: str, path: str) -> bool:
    return method in ("PUT", "PATCH") and path.startswith("/hyper/images/")


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    to_thread.current_default_thread_limiter().total_tokens = MAX_THREADS
    yield
