"""A program alone: its commands one after the other, with completion and history on a terminal, plainly in a pipe."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from garbi.terminal.output import complain

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History

LEAVE = ("exit", "quit")
USAGE = 2

Run = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Shell:
    """The shell of a `program` that speaks to the server at `url`; `globals` are options that precede every command."""

    program: str
    url: str
    run: Run
    completer: Callable[[], Completer]
    globals: tuple[str, ...] = ()


def run_shell(shell: Shell) -> int:
    """Run commands until `exit` or the end of input; return the status of the last one. Errors do not end it."""
    status = 0
    for line in _lines_typed(shell) if sys.stdin.isatty() else _lines_piped():
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            complain(f"{error} in: {line}")
            status = USAGE
            continue
        if words[:1] == [shell.program]:
            words = words[1:]
        if words[:1] and words[0] in LEAVE:
            break
        if words:
            command = ["--help"] if words == ["help"] else words
            status = shell.run(["--url", shell.url, *shell.globals, *command])
            sys.stdout.flush()
    return status


def _lines_piped() -> Iterator[str]:
    for line in sys.stdin:
        yield line.rstrip("\n")


def _lines_typed(shell: Shell) -> Iterator[str]:
    from prompt_toolkit import PromptSession

    session: PromptSession[str] = PromptSession(
        history=_history(shell.program),
        completer=shell.completer(),
        complete_in_thread=True,
        complete_while_typing=False,
    )
    print(f"{shell.program} at {shell.url}: `help` lists the commands, `exit` leaves.")
    while True:
        try:
            yield session.prompt(f"{shell.program}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _history(program: str) -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_file(program)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


def history_file(program: str) -> Path:
    """Where what was typed is kept."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "garbi" / f"{program}_history"
