"""Who the service of a data directory is, in a small file beside its database: so that it is known when the database is lost."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from garbi.storage.whole_files import replace_file

IDENTITY = "cluster-id"
_FORM = re.compile(r"[0-9a-f]{32}\Z")


def read_identity(data_dir: Path) -> str | None:
    """The cluster id in the file; None where there is none, or what is there is no cluster id."""
    with suppress(OSError, ValueError):
        text = (data_dir / IDENTITY).read_text().strip()
        return text if _FORM.match(text) else None
    return None


def keep_identity(data_dir: Path, cluster_id: str) -> None:
    """Write the cluster id into the file, if it is not there; raises NoSpace or FinalError."""
    if read_identity(data_dir) != cluster_id:
        replace_file(data_dir / IDENTITY, f"{cluster_id}\n".encode())
