"""What a person sees of an operation, live on a terminal and in a line at its end elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from garbi.base.errors import GarbiError, NothingFits
from garbi.base.problem import from_problem
from garbi.terminal.output import Document, plain
from garbi.terminal.progress import watched
from garbi.terminal.text import clean

if TYPE_CHECKING:
    from garbi.iaas_api.client import IaasClient

LONGEST_TASK = 60
"""Characters of a task beside a bar."""

WORDS_LINES = 20
"""Lines of a host's own words that are shown."""


def follow(client: IaasClient, id: str, title: str) -> Document:
    """Wait until an operation has finished, showing how far it is; return it. Raises the error that it failed with."""
    operation: Document = {}
    with _bar(title) as show:
        for operation in client.operations.follow(id):
            show(operation)
    if operation.get("state") == "failed":
        raise failure_of(operation)
    return operation


def failure_of(operation: Document) -> GarbiError:
    """Why an operation failed."""
    problem = operation.get("error")
    known = (
        problem if isinstance(problem, dict) else {"detail": plain(operation.get("message")) or "no reason is known"}
    )
    status = known.get("status")
    return from_problem(known, status if isinstance(status, int) else 500)


def failure_lines(error: GarbiError) -> list[str]:
    """An error in words: what failed, on which host, and what that host said."""
    task, host, words = (plain(error.extra.get(name)) for name in ("task", "host", "words"))
    lines = [error.detail]
    if task and task not in error.detail:
        lines.append(f"task: {task}")
    if host and host not in error.detail:
        lines.append(f"host: {host}")
    raw = error.extra.get("words")
    said = str(raw).splitlines() if words and words not in plain(error.detail) else []
    shown = [line for line in said if line.strip()]
    if len(shown) > WORDS_LINES:
        shown = [f"({len(shown) - WORDS_LINES} lines before)", *shown[-WORDS_LINES:]]
    return [*lines, *(f"  {line}" for line in shown)]


def step_text(operation: Document) -> str:
    """Which task of how many, in one short line."""
    message = clean(plain(operation.get("message")))
    task = message if len(message) <= LONGEST_TASK else message[: LONGEST_TASK - 1] + "…"
    steps = operation.get("steps")
    return f"{operation.get('step')}/{steps} {task}" if isinstance(steps, int) and steps > 0 else task


@contextmanager
def _bar(title: str) -> Iterator[Callable[[Document], None]]:
    """A bar for an operation; nothing where nobody watches."""
    if not watched():
        yield lambda operation: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(clean(title), markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[step]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=1.0, step="")
        yield lambda operation: progress.update(task, completed=share_of(operation), step=step_text(operation))


def share_of(operation: Document) -> float:
    """How far an operation is, from 0 to 1."""
    share = operation.get("progress")
    return min(max(float(share), 0.0), 1.0) if isinstance(share, int | float) else 0.0


@contextmanager
def counted(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar for many of the same; the function given moves it on by one."""
    if not watched():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(clean(title), markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def verdict_lines(error: NothingFits) -> list[str]:
    """The verdicts of a refusal, a line for each node; those that the error itself has told are not told again."""
    verdicts = error.extra.get("verdicts")
    listed: Iterable[object] = verdicts if isinstance(verdicts, list) else ()
    if error.extra.get("node") is not None:
        return []
    return [f"  {plain(each.get('node'))}: {plain(each.get('reason'))}" for each in listed if isinstance(each, dict)]
