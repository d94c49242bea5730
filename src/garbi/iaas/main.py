"""Puts one controller together from its settings, and serves it."""

from __future__ import annotations

from pathlib import Path

from garbi.base import logs
from garbi.base.clock import Clock
from garbi.iaas.controller import Controller
from garbi.iaas.settings import Settings


def open_controller(settings: Settings, clock: Clock | None = None) -> Controller:
    """Open the data directory and the database, take up what was begun, and begin to work.

    Raises DataDirLocked when another controller has it, NoSpace, or FinalError when the directory cannot be used.
    """
    raise NotImplementedError


def serve(
    host: str | None = None, port: int | None = None, data_dir: Path | None = None, database: str | None = None
) -> None:
    """Serve one controller over REST until SIGTERM or SIGINT; machines keep running."""
    settings = Settings.from_environment(host=host, port=port, data_dir=data_dir, database=database)
    logs.configure()
    controller = open_controller(settings)
    try:
        raise NotImplementedError
    finally:
        controller.close()
