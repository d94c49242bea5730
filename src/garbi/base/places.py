"""Where a service of this host keeps its things, for the service itself and for those who look for its token."""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM = Path("/var/lib/garbi")


def default_data_dir(service: str) -> Path:
    """The directory of `hyper` or `iaas`: the system's place for root, the user's otherwise."""
    if os.geteuid() == 0:
        return SYSTEM / service
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "garbi" / service
