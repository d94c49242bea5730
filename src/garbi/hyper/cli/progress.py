"""What a person sees while something takes time; in a pipe, nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from garbi.base.errors import NotFound
from garbi.hyper.cli.output import Document, on_terminal
from garbi.hyper.cli.text import clean

if TYPE_CHECKING:
    from garbi.hyper_api.client import HyperClient

WAIT_S = 600.0
LOOK_S = 1.0


def watched() -> bool:
    """Whether somebody watches."""
    return on_terminal() and sys.stderr.isatty()


def settle(client: HyperClient, wait: bool, ask: Callable[[float], Document | None]) -> Document | None:
    """Ask for something that takes time and return the machine as it is afterwards; None when it is gone.

    `ask` does the request and takes how many seconds it may wait. On a terminal the machine's state is shown meanwhile.
    """
    if not wait:
        return ask(0)
    if not watched():
        return ask(WAIT_S)
    machine = ask(LOOK_S)
    if machine is None or machine["settled"]:
        return machine
    with _status() as show:
        return _follow(client, machine, show)


def _follow(client: HyperClient, machine: Document, show: Callable[[str], None]) -> Document | None:
    deadline = time.monotonic() + WAIT_S
    while not machine["settled"] and time.monotonic() < deadline:
        show(clean(f"{machine['id']}: {machine['state']}"))
        try:
            machine = client.machines.get(machine["id"], wait_s=LOOK_S)
        except NotFound:
            return None
    return machine


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(text))


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that work goes on inside the block."""
    if not watched():
        yield
        return
    with _status() as show:
        show(text)
        yield


def sent(blocks: Iterable[bytes], size: int, title: str) -> Iterator[bytes]:
    """Pass the blocks of an upload on, with a bar for those who watch."""
    if not watched():
        yield from blocks
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(clean(title), markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=size)
        for block in blocks:
            yield block
            progress.advance(task, len(block))
