"""The command that is the controller."""

from __future__ import annotations

from pathlib import Path

import click

from garbi.base.errors import FinalError
from garbi.terminal.identity import is_loopback


@click.command()
@click.option("--host", envvar="GARBI_IAAS_HOST", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    envvar="GARBI_IAAS_PORT",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option(
    "--data-dir",
    envvar="GARBI_IAAS_DATA_DIR",
    type=click.Path(path_type=Path),
    help="Where images, keys and the database are.",
)
@click.option(
    "--database",
    envvar="GARBI_IAAS_DATABASE",
    metavar="URL",
    help="sqlite:////path or postgresql://user@host/name; SQLite in the data directory when not given.",
)
@click.option(
    "--allow-remote", is_flag=True, help="Listen on an address that others reach; who listens there can read the token."
)
@click.option(
    "--after-restore",
    is_flag=True,
    help="Once, when the database was restored from a backup: learn first from the nodes what it does not know.",
)
def serve(
    host: str, port: int, data_dir: Path | None, database: str | None, allow_remote: bool, after_restore: bool
) -> None:
    """Run the controller until Ctrl-C; machines keep running."""
    if not is_loopback(host) and not allow_remote:
        raise FinalError(
            f"{host} can be reached from other hosts, and the token that commands the cloud would travel there in the "
            "clear: there are no certificates yet. Listen on 127.0.0.1, or say --allow-remote if nobody else listens there"
        )
    from garbi.iaas.main import serve as serve_controller

    serve_controller(host, port, data_dir, database, after_restore=after_restore)
