"""Runs one command of a program; what becomes of an error is its words on stderr and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from garbi.base.errors import GarbiError, NodeUnreachable, ServerUnreachable, Unauthenticated
from garbi.terminal.identity import where_token
from garbi.terminal.output import complain, speak_as

ERROR, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130


def run_program(command_tree: click.Command, program: str, arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; an error is printed, never raised."""
    speak_as(program)
    try:
        result = command_tree.main(args=list(arguments), prog_name=program, standalone_mode=False)
    except (GarbiError, click.ClickException, click.Abort, KeyboardInterrupt, BrokenPipeError) as error:
        return _report(error, program)
    return result if isinstance(result, int) else 0


def is_away(error: BaseException) -> bool:
    """Whether the server itself does not answer, so that nothing else can be asked of it either."""
    return isinstance(error, ServerUnreachable) and not isinstance(error, NodeUnreachable)


def _report(error: BaseException, program: str) -> int:
    """Say what went wrong, and return the exit status for it."""
    if isinstance(error, GarbiError) and is_away(error):
        complain(error.detail, f"is a server running? `{program} serve` starts one; --url names another")
        return UNREACHABLE
    if isinstance(error, GarbiError):
        complain(*_lines(error, program))
        return ERROR
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        return USAGE
    if isinstance(error, click.ClickException):
        complain(*error.format_message().splitlines(), *_hint(error))
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        _let_go_of_stdout()
        return ERROR
    return INTERRUPTED


def _lines(error: GarbiError, program: str) -> list[str]:
    """An error in words, and what to do about it; a request with several wrong fields has several."""
    if isinstance(error, Unauthenticated):
        return [error.detail, *where_token(program)]
    several = error.extra.get("errors")
    listed = several if isinstance(several, list) else []
    return [str(one["detail"]) for one in listed if isinstance(one, dict) and "detail" in one] or [error.detail]


def _hint(error: click.ClickException) -> list[str]:
    context = getattr(error, "ctx", None)
    return [f"see `{context.command_path} --help`"] if context is not None else []


def _let_go_of_stdout() -> None:
    """Whoever read the output has gone; Python must not try to write the rest of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
