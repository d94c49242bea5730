"""Whether a data directory belongs to this host, or came here from another, as a copy or with its disk.

A copy (a template of a virtual machine, an rsync) would start the machines of another host a second time, and swear for it that
they have ended. So nothing of it is used before somebody says that it was moved.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from garbi.base.errors import FinalError, GarbiError
from garbi.hyper.host.capacity import hostname
from garbi.storage.whole_files import replace_file

log = logging.getLogger(__name__)

FILE = "host"
NAME = "name"

MARKS = {"machine-id": Path("/etc/machine-id"), "product-uuid": Path("/sys/class/dmi/id/product_uuid")}
"""What tells hosts apart, and where the kernel or the system has it: the installation, and the hardware, which root may read."""

UNKNOWN = ("", "uninitialized")
MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Copied:
    """A data directory that an agent of another host has used last. `differ` are the marks by which that is known."""

    path: Path
    host: str
    differ: tuple[str, ...]

    @property
    def words(self) -> str:
        """What is the matter, in half a sentence."""
        marks = " and ".join(self.differ)
        return f"{self.path} is that of another host, last called {self.host!r}: its {marks} differs from the one here"

    @property
    def way_on(self) -> str:
        """What an operator can do."""
        return (
            "if it was moved here (its disk in another computer, other hardware, a system installed anew) and is used nowhere "
            "else, `hyper serve --moved`, once; if it is a copy, give the agent an empty directory"
        )


def marks_of_host() -> dict[str, str]:
    """What tells this host from others, as far as this process may read it; no more than digests of it."""
    found = {}
    for name, path in MARKS.items():
        with suppress(OSError, ValueError):
            text = path.read_text().strip().lower()
            if text not in UNKNOWN and not _is_mounted(path):
                found[name] = hashlib.sha256(f"garbi {name} {text}".encode()).hexdigest()[:32]
    return found


def find_copied(data_dir: Path) -> Copied | None:
    """Whether a data directory came from another host; None where nothing says so."""
    known, present = _read(data_dir), marks_of_host()
    differ = tuple(name for name in MARKS if name in known and known[name] != present.get(name, known[name]))
    return Copied(data_dir, known.get(NAME, "?"), differ) if differ else None


def refuse_copied(data_dir: Path) -> None:
    """Raise FinalError, which says the way on, when a data directory came from another host."""
    copied = find_copied(data_dir)
    if copied is not None:
        raise FinalError(f"{copied.words}; nothing was changed: {copied.way_on}")


def keep_host(data_dir: Path) -> None:
    """Write down that a data directory belongs to this host; a disk that takes nothing now is asked again at the next start."""
    known = _read(data_dir)
    present = {**{name: known[name] for name in MARKS if name in known}, **marks_of_host(), NAME: hostname()}
    if present == known:
        return
    try:
        replace_file(data_dir / FILE, (json.dumps(present, indent=1) + "\n").encode())
    except GarbiError as error:
        log.warning("the host of this directory was not written down", extra={"detail": error.detail})


def _is_mounted(path: Path) -> bool:
    """Whether something was laid over a file: an id that systemd made for one boot, where its disk takes none."""
    return any(line.split()[4:5] == [str(path)] for line in MOUNTS.read_text().splitlines())


def _read(data_dir: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        found = json.loads((data_dir / FILE).read_text())
        if isinstance(found, dict):
            return {str(name): str(value) for name, value in found.items()}
    return {}
