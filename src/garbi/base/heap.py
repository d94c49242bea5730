"""How a service that runs for long takes memory: all its threads from one heap."""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8
"""Of mallopt(3)."""


def share_one_heap() -> None:
    """Have threads that are yet to start share the heap of the first one, where the C library is glibc.

    It would give each of them a heap of its own, and free memory in one is of no use to the others. Python's threads
    take turns anyway, so that they hardly ever wait for one another here.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
