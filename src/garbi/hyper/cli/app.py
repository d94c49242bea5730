"""All commands of hyper, and what becomes of an error: its words on stderr and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from garbi.base.errors import GarbiError, ServerUnreachable
from garbi.hyper.cli import host, images, machines, purge, serve
from garbi.hyper.cli.output import complain
from garbi.hyper.cli.server import DEFAULT_URL

ERROR, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130


@click.group(name="hyper", invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--url",
    envvar="GARBI_HYPER_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="Where the server is.",
)
@click.version_option(package_name="garbi", prog_name="hyper", message="%(prog)s %(version)s")
@click.pass_context
def command_tree(context: click.Context, url: str) -> None:
    """Virtual machines and containers of one host. Without a command: a shell, left by `exit`."""
    if context.invoked_subcommand is None:
        from garbi.hyper.cli.shell import run_shell

        context.exit(run_shell(url, run, command_tree))


@command_tree.command("exit")
def leave() -> None:
    """Leave the shell."""


for command in (serve.serve, purge.purge, images.commands, *machines.COMMANDS, *host.COMMANDS):
    command_tree.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; an error is printed, never raised."""
    try:
        result = command_tree.main(args=list(arguments), prog_name="hyper", standalone_mode=False)
    except (GarbiError, click.ClickException, click.Abort, KeyboardInterrupt, BrokenPipeError) as error:
        return _report(error)
    return result if isinstance(result, int) else 0


def _report(error: BaseException) -> int:
    """Say what went wrong, and return the exit status for it."""
    if isinstance(error, ServerUnreachable):
        complain(error.detail, "is a server running? `hyper serve` starts one; --url names another")
        return UNREACHABLE
    if isinstance(error, GarbiError):
        complain(*_lines(error))
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


def _lines(error: GarbiError) -> list[str]:
    """An error in words; a request with several wrong fields has several."""
    several = error.extra.get("errors")
    listed = several if isinstance(several, list) else []
    return [str(one["detail"]) for one in listed if isinstance(one, dict) and "detail" in one] or [error.detail]


def _hint(error: click.ClickException) -> list[str]:
    context = getattr(error, "ctx", None)
    return [f"see `{context.command_path} --help`"] if context is not None else []


def _let_go_of_stdout() -> None:
    """Whoever read the output has gone; Python must not try to write the rest of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
