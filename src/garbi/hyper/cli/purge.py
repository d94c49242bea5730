"""The command that takes hyper off a host for good."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from garbi.terminal.output import say


@click.command()
@click.option(
    "--data-dir",
    envvar="GARBI_HYPER_DATA_DIR",
    type=click.Path(path_type=Path),
    help="Where the agent's things are.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(data_dir: Path | None, yes: bool) -> None:
    """Remove every machine, network, pool, rule, image and file of an agent that does not run; nothing else."""
    from garbi.hyper.purge import purge as purge_agent
    from garbi.hyper.settings import Settings

    settings = Settings.from_environment(data_dir=data_dir)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("this deletes machines and their disks for good; say --yes")
        click.confirm(f"Delete all machines of {settings.data_dir}, with their disks, for good?", abort=True)
    purge_agent(settings, lambda gone: say(f"removed {gone}"))
