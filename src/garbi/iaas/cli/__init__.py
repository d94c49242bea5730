"""The command line of the cloud: it speaks REST, imports little, and is quick to start."""

from __future__ import annotations

import sys


def main() -> int:
    """Run one command, or the shell, and return the exit status: 0, 1 error, 2 wrong usage, 3 no server."""
    from garbi.iaas.cli.app import run

    return run(sys.argv[1:])
