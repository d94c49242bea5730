"""What a person sees while something takes time; in a pipe, nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from garbi.base.errors import NotFound
from garbi.terminal.output import Document, on_terminal
from garbi.terminal.text import clean

Look = Callable[[str, float], Document]
"""Fetches a machine by its id, once it has settled where the seconds allow; raises NotFound."""

WAIT_S = 600.0
LOOK_S = 1.0


def watched() -> bool:
    """Whether somebody watches."""
    return on_terminal() and sys.stderr.isatty()


def state_of(machine: Document) -> str:
    """What is shown of a machine that is waited for."""
    return f"{machine['id']}: {machine['state']}"


def settle(
    look: Look, wait: bool, ask: Callable[[float], Document | None], tell: Callable[[Document], str] = state_of
) -> Document | None:
    """Ask for something that takes time and return the machine as it is afterwards; None when it is gone.

    `ask` does the request and takes how many seconds it may wait. On a terminal what `tell` says of the machine is shown
    meanwhile.
    """
    if not wait:
        return ask(0)
    if not watched():
        return ask(WAIT_S)
    machine = ask(LOOK_S)
    if machine is None or machine["settled"]:
        return machine
    with status() as show:
        return _follow(look, machine, lambda each: show(clean(tell(each))))


def _follow(look: Look, machine: Document, show: Callable[[Document], None]) -> Document | None:
    deadline = time.monotonic() + WAIT_S
    while not machine["settled"] and time.monotonic() < deadline:
        show(machine)
        try:
            machine = look(machine["id"], LOOK_S)
        except NotFound:
            return None
    return machine


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """A line that says what is going on; the function given sets its text."""
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as line:
        yield lambda text: line.update(Text(text))


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that work goes on inside the block."""
    if not watched():
        yield
        return
    with status() as show:
        show(text)
        yield


def sent(blocks: Iterable[bytes], size: int, title: str, done: int = 0) -> Iterator[bytes]:
    """Pass the blocks of an upload on, with a bar for those who watch; `done` bytes of `size` are there already."""
    if not watched():
        yield from blocks
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(clean(title), markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=size, completed=done)
        for block in blocks:
            yield block
            progress.advance(task, len(block))
