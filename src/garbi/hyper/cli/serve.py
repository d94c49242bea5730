"""The command that is the server."""

from __future__ import annotations

from pathlib import Path

import click

from garbi.base.errors import FinalError
from garbi.terminal.identity import is_loopback


@click.command()
@click.option("--host", envvar="GARBI_HYPER_HOST", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    envvar="GARBI_HYPER_PORT",
    type=click.IntRange(0, 65535),
    default=8081,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option(
    "--data-dir",
    envvar="GARBI_HYPER_DATA_DIR",
    type=click.Path(path_type=Path),
    help="Where images, disks and the database are.",
)
@click.option(
    "--allow-remote", is_flag=True, help="Listen on an address that others reach; who listens there can read the token."
)
@click.option(
    "--adopt",
    is_flag=True,
    help="Once, when the database is lost, empty, damaged or older than the files of the machines: make it anew from them.",
)
@click.option(
    "--moved",
    is_flag=True,
    help="Once, when the data directory was moved here from another host, and is used nowhere else: its disk, or new hardware.",
)
def serve(host: str, port: int, data_dir: Path | None, allow_remote: bool, adopt: bool, moved: bool) -> None:
    """Run the agent of this host until Ctrl-C; machines keep running."""
    if not is_loopback(host) and not allow_remote:
        raise FinalError(
            f"{host} can be reached from other hosts, and the token that commands this host would travel there in the "
            "clear: there are no certificates yet. Listen on 127.0.0.1, or say --allow-remote if nobody else listens there"
        )
    from garbi.hyper.main import serve as serve_agent

    serve_agent(host, port, data_dir, adopt=adopt, moved=moved)
