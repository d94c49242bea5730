"""The process that is killed: an agent that does one operation, or only recovers from the last kill."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.crash.operations import OPERATIONS
from tests.crash.scene import Scene, all_settled

from garbi.base import failpoints
from garbi.hyper.main import open_agent
from garbi.hyper.purge import purge
from garbi.hyper.settings import Settings

MODULES = ("tests.crash.victim", "docker", "libvirt", "garbi.hyper.drivers.docker", "garbi.hyper.drivers.libvirt")


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do and where to die. No operation: only recover from the last kill.

    `answered` is made when the verb has returned; `output` takes what is printed.
    """

    settings: Settings
    scene: Scene
    operation: str
    crash_at: str
    visited: Path
    answered: Path
    output: Path


PURGE = "purge"
"""What is asked of no agent, but of the host: to take it off."""


def carry_out(orders: Orders) -> None:
    """Be an agent until everything is settled, or until the place to die at."""
    _print_to(orders.output)
    failpoints.arm(orders.crash_at, str(orders.visited))
    if orders.operation == PURGE:
        purge(orders.settings, print)
        return
    agent = open_agent(orders.settings)
    if orders.operation:
        OPERATIONS[orders.operation].ask(agent, orders.scene)
        orders.answered.touch()
    all_settled(agent)
    agent.close()


@contextlib.contextmanager
def process(target: object, *arguments: object) -> Iterator[BaseProcess]:
    """A process of its own that calls `target`, forked from one that has imported everything; it does not outlive the block."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(MODULES))
    child = context.Process(target=target, args=arguments)  # type: ignore[arg-type]
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


def _print_to(path: Path) -> None:
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
