"""The command that is a whole cloud, for those who develop with it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from garbi.terminal.output import say

if TYPE_CHECKING:
    from garbi.devcloud import DevCloud

MAX_NODES = 100


@click.command()
@click.option("--nodes", type=click.IntRange(1, MAX_NODES), default=3, show_default=True, help="How many nodes.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Keep all of it there for the next time; nothing is kept when not given.",
)
def dev(nodes: int, port: int, data_dir: Path | None) -> None:
    """Run a controller and nodes with fake machines until Ctrl-C, all in one process; needs no root and no daemon."""
    from garbi.base import logs
    from garbi.devcloud import DevCloud

    logs.configure()
    with _asked_to_end() as ending, DevCloud(nodes, port, data_dir) as cloud:
        _greet(cloud)
        ending.wait()


@contextmanager
def _asked_to_end() -> Iterator[threading.Event]:
    """A flag that SIGINT and SIGTERM raise inside the block."""
    ending = threading.Event()
    before = {number: signal.signal(number, lambda *_: ending.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _greet(cloud: DevCloud) -> None:
    say(f"iaas answers at {cloud.url} until Ctrl-C, with {len(cloud.nodes)} nodes whose machines are fake. Elsewhere:")
    say(f"export GARBI_IAAS_URL={cloud.url} GARBI_IAAS_TOKEN_FILE={cloud.token_file.absolute()}")
    say("iaas vm add anything -t fake")
    sys.stdout.flush()
