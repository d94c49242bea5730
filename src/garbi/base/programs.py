"""Where the host's own programs are; a user's PATH may leave out the administrator's."""

from __future__ import annotations

import os
import shutil

_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def find_program(name: str) -> str | None:
    """The path of a program, or None when it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
