"""For the tests of real hosts: the images they are made of, a lab for each module, a controller's directory for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from garbi.base.token import Secret, new_secret
from garbi.hyper_api.client import HyperClient
from garbi.iaas.model.node import Ssh
from garbi.iaas.provisioning import Target, TaskProgress
from garbi.iaas.provisioning.playbook import Outcome
from garbi.iaas.provisioning.work import add, remove

from . import hosts

T = TypeVar("T")
PORT = 8081


class Controller:
    """What provisioning needs of a controller: a data directory, and who knows the key of the hosts."""

    def __init__(self, data_dir: Path, key: Path) -> None:
        self.data_dir, self.key = data_dir, key

    def target(self, host: hosts.Host, port: int = PORT, token: str | None = None, **ssh: object) -> Target:
        """The host as a node, its key given by fingerprint."""
        settings = {"key_file": str(self.key), "host_key": host.host_key} | ssh
        return Target(f"node-{port}", host.address, port, Ssh(**settings), token or new_secret())  # type: ignore[arg-type]

    def add(
        self, target: Target, told: list[TaskProgress] | None = None, cancelled: threading.Event | None = None
    ) -> Outcome:
        """Add it; `told` gets the progress."""
        on_progress = (lambda progress: None) if told is None else told.append
        return add(target, on_progress, cancelled or threading.Event(), self.data_dir)

    def remove(self, target: Target) -> Outcome:
        """Remove it."""
        return remove(target, lambda progress: None, threading.Event(), self.data_dir)


@pytest.fixture(scope="session")
def bare_image() -> str:
    return hosts.bare_image()


@pytest.fixture(scope="session")
def packaged_image() -> str:
    return hosts.packaged_image()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hosts.Lab]:
    lab = hosts.Lab(tmp_path_factory.mktemp("lab"))
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels are made once."""
    return tmp_path_factory.mktemp("controller")


@pytest.fixture
def controller(data_dir: Path, lab: hosts.Lab) -> Controller:
    return Controller(data_dir, lab.key)


def at_once(*works: Callable[[], T]) -> list[T]:
    """Do all at the same time; what they gave, or the first error."""
    with ThreadPoolExecutor(len(works)) as pool:
        futures: list[Future[T]] = [pool.submit(work) for work in works]
        return [future.result() for future in futures]


def client(target: Target, token: Secret | str | None = None) -> HyperClient:
    """A client of the node's hyper."""
    return HyperClient(f"http://{target.host}:{target.port}", token=token or target.token)
