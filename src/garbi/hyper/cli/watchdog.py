"""The commands that end machines whose lease has ended, without the agent: the watchdog, and the fence of a controller."""

from __future__ import annotations

import json
from pathlib import Path

import click

from garbi.terminal.output import say

data_dir_option = click.option(
    "--data-dir",
    envvar="GARBI_HYPER_DATA_DIR",
    type=Path,  # click's own would look at the directory, whose disk may hang
    help="Where the agent's things are.",
)


@click.command()
@data_dir_option
def watchdog(data_dir: Path | None) -> None:
    """Guard the machines of this host's agent until Ctrl-C: end those that may run elsewhere when their lease ends."""
    from garbi.hyper.watchdog.opening import guard

    say("hyper watchdog guards until Ctrl-C; machines keep running then")
    guard(data_dir)


@click.command()
@click.option("--controller", required=True, help="The id of the controller whose lease ends.")
@click.option("--number", required=True, type=click.IntRange(1, 10**15 - 1), help="The number of the lease.")
@data_dir_option
@click.pass_context
def fence(context: click.Context, controller: str, number: int, data_dir: Path | None) -> None:
    """End a controller's lease and its machines that may run elsewhere; exit status 1 when one of them may still run.

    Looks at the engines too, for the agent's database may be lost. Prints one line of JSON. Machines that stay with this host,
    and those of others, are not touched.
    """
    from garbi.hyper.settings import Settings
    from garbi.hyper.watchdog.opening import await_closing, open_fence

    try:
        report = open_fence(Settings.from_environment(data_dir=data_dir)).fence(controller, number)
    finally:
        await_closing()
    click.echo(json.dumps(report.to_document()))
    if not report.proven:
        context.exit(1)
