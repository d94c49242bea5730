"""All commands of iaas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from garbi.iaas.cli import cloud, dev, images, machines, node_settings, nodes, serve, what_if
from garbi.iaas.cli.server import DEFAULT_URL, connect
from garbi.terminal.output import complain
from garbi.terminal.program import UNREACHABLE, run_program

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer


@click.group(name="iaas", invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--url",
    envvar="GARBI_IAAS_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="Where the controller is.",
)
@click.option(
    "--token-file",
    envvar="GARBI_IAAS_TOKEN_FILE",
    type=click.Path(path_type=Path),
    show_envvar=True,
    help="File with the controller's token; that of this host's own controller when not given.",
)
@click.version_option(package_name="garbi", prog_name="iaas", message="%(prog)s %(version)s")
@click.pass_context
def command_tree(context: click.Context, url: str, token_file: Path | None) -> None:
    """Virtual machines and containers across hosts. Without a command: a shell, left by `exit`."""
    if context.invoked_subcommand is None:
        from garbi.terminal.shell import Shell, run_shell

        precede = () if token_file is None else ("--token-file", str(token_file))
        context.exit(run_shell(Shell("iaas", url, run, lambda: _completer(context), precede)))


def _completer(context: click.Context) -> Completer:
    from garbi.iaas.cli.completion import IaasCompleter

    return IaasCompleter(connect(context), command_tree)


@command_tree.command("exit")
def leave() -> None:
    """Leave the shell."""


for verb in (node_settings.set_node, node_settings.test_fence, what_if.what_if):
    nodes.commands.add_command(verb)
for command in (serve.serve, dev.dev, nodes.commands, images.commands, machines.commands, *cloud.COMMANDS):
    command_tree.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; an error is printed, never raised."""
    try:
        return run_program(command_tree, "iaas", arguments)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # What a command reads is what a controller of this version answers; all else is somebody else's.
        complain(f"an answer could not be understood ({type(error).__name__}: {error})")
        complain("does a controller of this version of Garbi answer there? --url names another")
        return UNREACHABLE
