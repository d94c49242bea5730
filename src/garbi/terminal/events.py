"""What happened, line by line: who, what, why. It ends with who reads it, also while nothing happens."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import click

from garbi.terminal.moments import clock_text
from garbi.terminal.output import STATE_STYLES, Command, Document, Format, on_terminal, plain, show_data

LAST = 10
"""How many events of the past are shown before those to come."""

SUBJECT_WIDTH, KIND_WIDTH, STATE_WIDTH, ACTOR_WIDTH = 24, 9, 11, 10
GONE = (select.POLLERR, select.POLLHUP, select.POLLNVAL)


def stream_options(command: Command) -> Command:
    """Give a command `--after`, `--last` and `--follow`."""
    for option in (
        click.option(
            "--follow/--no-follow", default=True, help="Go on with what is to come, until Ctrl-C; by default."
        ),
        click.option(
            "--last",
            type=click.IntRange(0, 1000),
            default=LAST,
            show_default=True,
            help="Begin with so many of the past.",
        ),
        click.option("--after", type=click.IntRange(0), help="Begin after the event of this number."),
    ):
        command = option(command)
    return command


def show_events(events: Iterable[Document], fields: Sequence[str], output: Format) -> None:
    """Print events as they come: a line each on a terminal, tab-separated `fields` in a pipe, a document a line as JSON."""
    with _ending_with_reader():
        for event in events:
            if output == "json":
                print(json.dumps(event))
            elif output == "yaml":
                show_data([event], output)
            elif on_terminal():
                click.echo(_line(event))
            else:
                print("\t".join(plain(event.get(name)) or "-" for name in fields))
            sys.stdout.flush()


def _line(event: Document) -> str:
    """When, what, how it is now, by whom, and why."""
    subject = " ".join(filter(None, (plain(event.get("subject")), plain(event.get("id") or event.get("machine_id")))))
    state, actor = plain(event.get("state")), plain(event.get("actor"))
    parts = [
        clock_text(plain(event.get("at"))),
        f"{subject:<{SUBJECT_WIDTH}}",
        f"{plain(event.get('kind')):<{KIND_WIDTH}}",
        click.style(f"{state:<{STATE_WIDTH}}", fg=_COLOURS.get(STATE_STYLES.get(state, ""))),
        *([f"{actor:<{ACTOR_WIDTH}}"] if "actor" in event else []),
        plain(event.get("reason")),
    ]
    return "  ".join(parts).rstrip()


_COLOURS = {"green": "green", "red": "red", "dim": "bright_black"}


@contextmanager
def _ending_with_reader() -> Iterator[None]:
    """Raise BrokenPipeError in the block when who reads the output has gone; a write would tell that only at the next event."""
    pipe = _pipe()
    if pipe is None:
        yield
        return
    done, gone = threading.Event(), threading.Event()

    def watch() -> None:
        poll = select.poll()
        poll.register(pipe, 0)
        while not done.is_set():
            if any(state & each for _, state in poll.poll(500) for each in GONE):
                gone.set()
                if not done.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        if gone.is_set():
            raise BrokenPipeError from None
        raise
    finally:
        done.set()


def _pipe() -> int | None:
    """The descriptor of the output where it is a pipe, and this thread is the one that signals interrupt."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return None
    mode = os.fstat(number).st_mode
    is_pipe = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    return number if is_pipe and threading.current_thread() is threading.main_thread() else None
