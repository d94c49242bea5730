"""The docker driver: machines are containers of a Docker Engine. Its library is loaded when the driver is asked for.

Settings: `host` is the engine's address as in DOCKER_HOST (default unix:///var/run/docker.sock); `registries` lists, with
commas, the registries that images may be pulled from (default none).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garbi.hyper.drivers.docker.driver import DockerDriver

__all__ = ["DockerDriver"]


def __getattr__(name: str) -> Any:
    if name != "DockerDriver":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from garbi.hyper.drivers.docker.driver import DockerDriver  # the library costs memory and time

    return DockerDriver
