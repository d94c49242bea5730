"""`hyper` alone: commands one after the other, with completion and history on a terminal, plainly from a pipe."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from garbi.hyper.cli.output import complain

if TYPE_CHECKING:
    from prompt_toolkit.history import History

PROMPT = "hyper> "
LEAVE = ("exit", "quit")
USAGE = 2

Run = Callable[[Sequence[str]], int]


def run_shell(url: str, run: Run, command_tree: object) -> int:
    """Run commands until `exit` or the end of input; return the status of the last one. Errors do not end it.

    `command_tree` is what completion offers.
    """
    status = 0
    for line in _lines_typed(url, command_tree) if sys.stdin.isatty() else _lines_piped():
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            complain(f"{error} in: {line}")
            status = USAGE
            continue
        if words[:1] == ["hyper"]:
            words = words[1:]
        if words[:1] and words[0] in LEAVE:
            break
        if words:
            status = run(["--url", url, *(["--help"] if words == ["help"] else words)])
            sys.stdout.flush()
    return status


def _lines_piped() -> Iterator[str]:
    for line in sys.stdin:
        yield line.rstrip("\n")


def _lines_typed(url: str, command_tree: object) -> Iterator[str]:
    from prompt_toolkit import PromptSession

    from garbi.hyper.cli.completion import ShellCompleter

    session: PromptSession[str] = PromptSession(
        history=_history(),
        completer=ShellCompleter(url, command_tree),
        complete_in_thread=True,
        complete_while_typing=False,
    )
    print(f"hyper at {url}: `help` lists the commands, `exit` leaves.")
    while True:
        try:
            yield session.prompt(PROMPT)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _history() -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


def history_file() -> Path:
    """Where what was typed is kept."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "garbi" / "hyper_history"
