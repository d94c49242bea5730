"""Where programs that speak with a host run: they see the system's programs, our package and one directory, no secret of ours.

A host is a stranger: what it answers is read by ssh and Ansible, and a fault in them must reach neither the controller's
database nor another host's key. All that was started ends with the sandbox, also what went into a session of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

INSIDE = Path("/garbi")
"""Where the directory of a run is inside."""

MEMORY_BYTES, FILE_BYTES = 4 << 30, 256 << 20
"""What a process inside may take: a host that answers without end fills neither memory nor disk."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_FILES = (
    "/etc/alternatives", "/etc/group", "/etc/gai.conf", "/etc/host.conf", "/etc/hosts", "/etc/ld.so.cache", "/etc/localtime",
    "/etc/nsswitch.conf", "/etc/passwd", "/etc/resolv.conf", "/etc/services",
)  # fmt: skip


def confined(command: Sequence[str], directory: Path, shown: Sequence[Path] = ()) -> list[str]:
    """The command that runs `command` with `directory` at INSIDE; `shown` paths are there too, and cannot be written.

    Raises FileNotFoundError when bubblewrap is not installed.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise FileNotFoundError("bwrap is not installed: apt-get install bubblewrap")
    limits = ["prlimit", f"--as={MEMORY_BYTES}", f"--fsize={FILE_BYTES}", "--core=0", "--"]
    words = [*limits, bwrap, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--new-session"]
    words += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - one of its own
    for place in _SYSTEM:
        if Path(place).is_symlink():
            words += ["--symlink", os.readlink(place), place]
        elif Path(place).exists():
            words += ["--ro-bind", place, place]
    for path in (*_FILES, *_ours(), *map(str, shown)):
        words += ["--ro-bind-try", path, path]
    words += ["--bind", str(directory), str(INSIDE), "--chdir", str(INSIDE), "--clearenv"]
    for name, value in _environment().items():
        words += ["--setenv", name, value]
    return [*words, "--", *command]


def _ours() -> list[str]:
    """Our own interpreter with its libraries, and our package, where they are not the system's."""
    package = find_spec("garbi")
    source = Path(package.origin).parent if package and package.origin else Path(__file__).parents[2]
    places = dict.fromkeys(str(Path(place).absolute()) for place in (sys.base_prefix, sys.prefix, source))
    return [place for place in places if not any(Path(place).is_relative_to(known) for known in _SYSTEM)]


def _environment() -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"PATH": programs, "HOME": str(INSIDE), "TMPDIR": str(INSIDE), "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
