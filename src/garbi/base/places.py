"""Where a service of this host keeps its things, for the service itself and for those who look for its token."""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM = Path("/var/lib/garbi")
OF_BOOT = Path("/run/garbi")
LINKS = 40
"""How many links may lead to one another, as for the kernel."""


def default_data_dir(service: str) -> Path:
    """The directory of `hyper` or `iaas`: the system's place for root, the user's otherwise."""
    if os.geteuid() == 0:
        return SYSTEM / service
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "garbi" / service


def default_run_dir() -> Path:
    """The directory of what is of one boot, in memory: the system's for root, the user's otherwise, if the host makes one."""
    if os.geteuid() == 0:
        return OF_BOOT
    of_user = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return Path(of_user) / "garbi" if Path(of_user).is_dir() else Path.home() / ".local/state/garbi/run"


def make_private(path: Path) -> None:
    """Make a directory of a boot, and the one that it is in, for their owner alone, whatever umask there is; raises OSError."""
    for each in (path.parent, path):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)


def resolve_name(path: Path) -> Path:
    """The path without links, as `Path.resolve` says it; what is behind the name is not looked at, for its disk may hang."""
    for _ in range(LINKS):
        path = path.absolute()
        path = path.parent.resolve() / path.name
        try:
            path = path.parent / os.readlink(path)
        except OSError:
            break
    return path
