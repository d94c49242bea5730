#!/usr/bin/python3
"""Lets containers run on while dockerd restarts. A Docker that was on the host before us is touched with `--found` only.

The setting is merged into Docker's own file; dockerd reads that again, and is not restarted. What does not parse, or what
dockerd does not take, stays as it was: then the exit status is 1, and standard error says why. Runs on the host, with its Python.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEY = "live-restore"
ASK_S, RELOAD_S, LOOK_S = 30.0, 20.0, 0.2
INSTEAD = "nothing was changed; mend that, or add the node without --live-restore"


def main() -> None:
    """Set it where that is due; says "garbi: changed" when it did."""
    given = _arguments()
    path = Path(os.path.realpath(given.settings))
    before = path.read_bytes() if path.exists() else None
    was_here = before is not None or "docker.io" in (given.record / "packages").read_text().split()
    if was_here and not given.found:
        return
    settings = _parse(path, before)
    engine = _engine(given.host)
    if engine is not None and engine.get("LiveRestoreEnabled"):
        return
    if engine is not None and (engine.get("Swarm") or {}).get("LocalNodeState", "inactive") != "inactive":
        sys.exit(f"the Docker of this host is in a swarm, which {KEY} does not go with: {INSTEAD}")
    if engine is None and settings.get(KEY) is True:
        return  # whoever starts it starts it so
    pid = None if engine is None else _pid(Path(str(settings.get("pidfile") or given.pidfile)))
    wanted = (json.dumps({**settings, KEY: True}, indent=4, ensure_ascii=False) + "\n").encode()
    if was_here:
        _remember(given.record / "docker-settings", before, wanted)
    _write(path, wanted)
    if pid is not None:
        os.kill(pid, signal.SIGHUP)
        if not _is_taken(given.host):
            _put_back(path, before, pid)
            sys.exit(f"dockerd does not take {KEY} from {path}; is it given on its command line, too? {INSTEAD}")
    print("garbi: changed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--found", action="store_true", help="also in a Docker that was here before")
    parser.add_argument("--settings", type=Path, default=Path("/etc/docker/daemon.json"))
    parser.add_argument("--host", default="unix:///var/run/docker.sock")
    parser.add_argument(
        "--pidfile", type=Path, default=Path("/var/run/docker.pid"), help="unless the settings name one"
    )
    parser.add_argument("--record", type=Path, default=Path("/etc/garbi/before"))
    return parser.parse_args()


def _parse(path: Path, text: bytes | None) -> dict[str, Any]:
    try:
        settings = json.loads(text) if text is not None and text.strip() else {}
    except ValueError as error:
        sys.exit(f"{path} is not JSON ({error}): {INSTEAD}")
    if not isinstance(settings, dict):
        sys.exit(f"{path} holds no JSON object: {INSTEAD}")
    return settings


def _engine(host: str) -> dict[str, Any] | None:
    """What dockerd says of itself; None when none answers."""
    command = ["docker", "-H", host, "info", "--format", "{{json .}}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_S, check=False)
        said = json.loads(done.stdout) if done.returncode == 0 else None
    except subprocess.TimeoutExpired:
        sys.exit(f"the Docker of this host does not answer within {ASK_S:g} s: {INSTEAD}")
    except ValueError:
        return None
    return said if isinstance(said, dict) and not said.get("ServerErrors") else None


def _pid(note: Path) -> int:
    try:
        pid = int(note.read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd":
            return pid
    except (OSError, ValueError):
        pass
    sys.exit(f"{note} does not name the process of dockerd, which has to read its settings again: {INSTEAD}")


def _remember(place: Path, before: bytes | None, wanted: bytes) -> None:
    """So that the removal of the last node gives back what was there, if nobody has changed it since."""
    place.mkdir(mode=0o700, exist_ok=True)
    (place / "before").unlink(missing_ok=True)
    if before is not None:
        (place / "before").write_bytes(before)
    (place / "ours").write_bytes(wanted)


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, with the owner and the mode that it has."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.garbi")
    draft.write_bytes(content)
    known = path.stat() if path.exists() else None
    os.chmod(draft, 0o644 if known is None else known.st_mode & 0o7777)
    if known is not None:
        os.chown(draft, known.st_uid, known.st_gid)
    descriptor = os.open(draft, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    draft.replace(path)


def _is_taken(host: str) -> bool:
    end = time.monotonic() + RELOAD_S
    while time.monotonic() < end:
        engine = _engine(host)
        if engine is not None and engine.get("LiveRestoreEnabled"):
            return True
        time.sleep(LOOK_S)
    return False


def _put_back(path: Path, before: bytes | None, pid: int) -> None:
    if before is None:
        path.unlink()
    else:
        _write(path, before)
    os.kill(pid, signal.SIGHUP)


if __name__ == "__main__":
    main()
