"""Named places where a test may stop the process: how crash safety is proven on the real program.

Nothing happens unless the environment asks for it when the process starts:
`GARBI_CRASH_AT=NAME[@N]` ends the process at the N-th visit of NAME (default 1) with `os._exit(EXIT_CODE)`, as SIGKILL would;
the NAME `*` stands for any. `GARBI_FAILPOINT_LOG=FILE` writes each visited name to FILE, so that a test knows which places an
operation passes. A process that was forked, so that its environment says nothing, calls `arm` instead.
"""

from __future__ import annotations

import os
import threading

EXIT_CODE = 86
ANY = "*"

_target = ""
_remaining = 1
_log = ""
_lock = threading.Lock()


def arm(crash_at: str = "", log: str = "") -> None:
    """Set for this process what GARBI_CRASH_AT and GARBI_FAILPOINT_LOG set."""
    global _target, _remaining, _log  # noqa: PLW0603 - the settings of one process
    _target, _, count = crash_at.partition("@")
    _remaining = int(count or 1)
    _log = log


def reach(name: str) -> None:
    """Mark that the program is at the place called `name`; returns at once unless a test asked for a crash here."""
    if _target or _log:
        _visit(name)


def _visit(name: str) -> None:
    global _remaining  # noqa: PLW0603 - the count of one process-wide setting
    with _lock:
        if _log:
            with open(_log, "a", encoding="utf-8") as log:
                log.write(name + "\n")
        if _target not in (name, ANY):
            return
        _remaining -= 1
        if _remaining == 0:
            os._exit(EXIT_CODE)


arm(os.environ.get("GARBI_CRASH_AT", ""), os.environ.get("GARBI_FAILPOINT_LOG", ""))
