"""Threads of a service take their memory from one heap."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from garbi.base.heap import share_one_heap
if {shared}:
    share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)

def work():
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


@pytest.mark.parametrize("shared", [True, False])
def test_threads_have_heaps_of_their_own_unless_they_share_one(shared: bool) -> None:
    program = [sys.executable, "-c", PROGRAM.format(shared=shared)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert "Arena 0:" in done.stderr
    assert ("Arena 1:" in done.stderr) is not shared
