"""The process of one command, quick to start and to end."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence

Run = Callable[[Sequence[str]], int]


def run_process(load: Callable[[], Run]) -> int:
    """Run the command of this process by the function that `load` imports; return the exit status.

    What is imported stays until the end, and the end frees all: looking through it for garbage is a fifth of a short command.
    """
    gc.disable()
    run = load()
    gc.freeze()
    gc.enable()
    try:
        return run(sys.argv[1:])
    finally:
        gc.freeze()
