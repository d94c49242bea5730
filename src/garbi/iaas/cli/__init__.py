"""The command line of the cloud: it speaks REST, imports little, and is quick to start."""

from __future__ import annotations

from garbi.terminal.process import Run, run_process


def main() -> int:
    """Run one command, or the shell, and return the exit status: 0, 1 error, 2 wrong usage, 3 no server."""
    return run_process(_load)


def _load() -> Run:
    from garbi.iaas.cli.app import run

    return run
