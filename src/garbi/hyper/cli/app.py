"""All commands of hyper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from garbi.hyper.cli import host, images, kept, machines, purge, serve, watchdog
from garbi.hyper.cli.server import DEFAULT_URL, connect
from garbi.terminal.program import run_program

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer


@click.group(name="hyper", invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--url",
    envvar="GARBI_HYPER_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="Where the server is.",
)
@click.option(
    "--token-file",
    envvar="GARBI_HYPER_TOKEN_FILE",
    type=click.Path(path_type=Path),
    show_envvar=True,
    help="File with the server's token; that of this host's own agent when not given.",
)
@click.version_option(package_name="garbi", prog_name="hyper", message="%(prog)s %(version)s")
@click.pass_context
def command_tree(context: click.Context, url: str, token_file: Path | None) -> None:
    """Virtual machines and containers of one host. Without a command: a shell, left by `exit`."""
    if context.invoked_subcommand is None:
        from garbi.terminal.shell import Shell, run_shell

        precede = () if token_file is None else ("--token-file", str(token_file))
        context.exit(run_shell(Shell("hyper", url, run, lambda: _completer(context), precede)))


def _completer(context: click.Context) -> Completer:
    from garbi.hyper.cli.completion import HyperCompleter

    return HyperCompleter(connect(context), command_tree)


@command_tree.command("exit")
def leave() -> None:
    """Leave the shell."""


for command in (
    serve.serve,
    watchdog.watchdog,
    watchdog.fence,
    purge.purge,
    images.commands,
    kept.commands,
    *machines.COMMANDS,
    *host.COMMANDS,
):
    command_tree.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; an error is printed, never raised."""
    return run_program(command_tree, "hyper", arguments)
