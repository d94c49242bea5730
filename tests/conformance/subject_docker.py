"""The docker driver under test: the engine is asked by its own command line, its processes and cgroups by the kernel."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.conformance.socket_relay import SocketRelay
from tests.conformance.subjects import Limits
from tests.host.docker_archives import image_file, saved_archive, shell_image

from garbi.base.clock import SystemClock
from garbi.hyper.drivers.docker import DockerDriver
from garbi.hyper.drivers.protocol import Driver, DriverContext, ImageFile

ENGINE = Path("/var/run/docker.sock")
OTHER_CLUSTER = secrets.token_hex(16)
USER_LABEL = "garbi.label."
MIB = 1024 * 1024

SERVE = """
trap 'exit 0' TERM
echo the machine is ready
busybox httpd -f -p 80 -h /www &
while :; do sleep 3600 & wait; done
"""


def docker(*arguments: str, check: bool = True) -> str:
    """What the docker command prints; fails with its words when it fails, unless told not to."""
    done = subprocess.run(
        ["docker", "-H", f"unix://{ENGINE}", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def inspect(container: str) -> dict[str, Any]:
    """All that the engine knows of a container."""
    described: dict[str, Any] = json.loads(docker("container", "inspect", container))[0]
    return described


def container_name(cluster_id: str, machine_id: str) -> str:
    return f"garbi-{cluster_id[:8]}-{machine_id}"


class DockerEvidence:
    """What the engine and the kernel say of a cluster's machines."""

    def kill_outside(self, cluster_id: str, machine_id: str) -> None:
        os.kill(self._pid(cluster_id, machine_id), signal.SIGKILL)

    def incarnation(self, cluster_id: str, machine_id: str) -> str:
        return _incarnation(self._pid(cluster_id, machine_id))

    def limits_seen(self, cluster_id: str, machine_id: str) -> Limits:
        pid = self._pid(cluster_id, machine_id)
        unified = _cgroup_file(pid, "", "memory.max")
        if unified.exists():
            quota, period = _cgroup_file(pid, "", "cpu.max").read_text().split()
            return Limits(int(unified.read_text()) // MIB, int(quota) / int(period))
        quota, period = (_cgroup_file(pid, "cpu", f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        memory = int(_cgroup_file(pid, "memory", "memory.limit_in_bytes").read_text())
        return Limits(memory // MIB, int(quota) / int(period))

    def labels_kept(self, cluster_id: str, machine_id: str) -> Mapping[str, str]:
        labels = inspect(container_name(cluster_id, machine_id))["Config"]["Labels"]
        return {key.removeprefix(USER_LABEL): value for key, value in labels.items() if key.startswith(USER_LABEL)}

    def leftovers(self, cluster_id: str) -> list[str]:
        names = docker("ps", "-a", "--filter", f"label=garbi.cluster={cluster_id}", "--format", "{{.Names}}").split()
        return [f"container {name}" for name in names]

    def keeps_image(self, cluster_id: str, sha256: str) -> bool:
        return bool(docker("image", "ls", "-q", f"garbi/{cluster_id[:8]}:{sha256}").strip())

    def footprint(self, cluster_id: str) -> list[str]:
        pattern = "image {{.Repository}}:{{.Tag}}"
        return docker("image", "ls", "--format", pattern, f"garbi/{cluster_id[:8]}").splitlines()

    def sweep(self, cluster_id: str) -> None:
        for name in docker("ps", "-aq", "--filter", f"label=garbi.cluster={cluster_id}").split():
            docker("rm", "-f", "-v", name, check=False)
        for image in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"garbi/{cluster_id[:8]}").split():
            docker("image", "rm", "-f", image, check=False)

    def _pid(self, cluster_id: str, machine_id: str) -> int:
        pid = int(inspect(container_name(cluster_id, machine_id))["State"]["Pid"])
        assert pid, f"machine {machine_id} does not run"
        return pid


class DockerForeign:
    """Containers that are not ours, of an image that is not ours either."""

    def __init__(self, archive: ImageFile) -> None:
        self._archive = archive
        self._foreign: dict[str, str] = {}
        self._volumes: list[str] = []
        self._image = ""

    def make_foreign(self, cluster_id: str, machine_id: str) -> None:
        label, volume = f"garbi.machine={machine_id}", f"garbi-foreign-{secrets.token_hex(4)}"
        docker("volume", "create", volume)
        self._volumes.append(volume)
        self._run(f"garbi-foreign-{secrets.token_hex(4)}", "-v", f"{volume}:/data")
        self._run(container_name(cluster_id, machine_id) + "x")
        self._run(container_name(OTHER_CLUSTER, machine_id), "-l", f"garbi.cluster={OTHER_CLUSTER}", "-l", label)

    def make_impostor(self, cluster_id: str, machine_id: str) -> None:
        name = container_name(cluster_id, machine_id)
        docker("create", "--name", name, self._own_image())
        self._foreign[name] = _state(name)

    def foreign_changes(self) -> list[str]:
        present = {name: _state(name) for name in self._foreign}
        changed = [f"{name}: {present[name]} instead of {before}" for name, before in self._foreign.items()]
        volumes = docker("volume", "ls", "-q").split()
        gone = [f"volume {name} is gone" for name in self._volumes if name not in volumes]
        return [
            line for line, name in zip(changed, self._foreign, strict=True) if present[name] != self._foreign[name]
        ] + gone

    def remove_foreign(self) -> None:
        for name in self._foreign:
            docker("rm", "-f", "-v", name, check=False)
        for name in self._volumes:
            docker("volume", "rm", name, check=False)
        self._foreign.clear()
        self._volumes.clear()

    def _run(self, name: str, *options: str) -> None:
        docker("run", "-d", "--network", "none", "--name", name, *options, self._own_image())
        self._foreign[name] = _state(name)

    def _own_image(self) -> str:
        if not self._image:
            self._image = f"garbi-foreign:{secrets.token_hex(4)}"
            loaded = docker("load", "-i", str(self._archive.path))
            docker("tag", loaded.rpartition(" ")[2].strip(), self._image)
        return self._image

    def _drop_own_image(self) -> None:
        if self._image:
            docker("image", "rm", "-f", self._image)


class DockerSubject(DockerEvidence, DockerForeign):
    """The docker driver on this host's engine, behind a relay of this process, so that it can be taken away."""

    name = "docker"
    driver_class = DockerDriver
    outlives_process = True
    serves_page = True
    console_text = b"the machine is ready"
    notice_s = 60.0

    def __init__(self, work_dir: Path) -> None:
        super().__init__(shell_image(work_dir / f"foreign-{os.getpid()}.tar", SERVE, {"data/file": b"foreign"}))
        served = {"www/index.html": b"a page from the machine\n"}
        self._tiny = shell_image(work_dir / f"tiny-{os.getpid()}.tar", SERVE, served)
        corrupt = saved_archive([b"this is no tar" * 100], b"{}")
        self._corrupt = image_file(work_dir / f"corrupt-{os.getpid()}.tar", corrupt)
        self._work_dir = work_dir
        self._relay_path = work_dir / f"engine-{os.getpid()}-{threading.get_ident()}.sock"
        self._relay = SocketRelay(self._relay_path, ENGINE)

    def make_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        return self._driver(cluster_id, data_dir, self._relay_path)

    def make_stranded_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        return self._driver(cluster_id, data_dir, self._work_dir / "nobody.sock")

    def image(self) -> ImageFile:
        return self._tiny

    def corrupt_image(self) -> ImageFile:
        return self._corrupt

    def close(self) -> None:
        self._relay.cut()
        self._drop_own_image()

    @contextlib.contextmanager
    def broken_daemon(self) -> Iterator[None]:
        with self._relay.broken():
            yield

    def _driver(self, cluster_id: str, data_dir: Path, socket: Path) -> Driver:
        return DockerDriver(DriverContext(cluster_id, data_dir, SystemClock(), {"host": f"unix://{socket}"}))


def _state(name: str) -> str:
    """What must stay as it is of a container: whether and since when it runs, what it is made of, what it is called."""
    described = docker("container", "inspect", name, check=False)
    if not described.strip() or described.strip() == "[]":
        return "gone"
    found = json.loads(described)[0]
    state = {key: found["State"][key] for key in ("Status", "Pid", "StartedAt", "FinishedAt")}
    return json.dumps([found["Id"], found["Name"], state, found["Config"], found["Mounts"]], sort_keys=True)


def _incarnation(pid: int) -> str:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return f"pid {pid} since tick {after_name[19]}"


def _cgroup_file(pid: int, controller: str, name: str) -> Path:
    """A file of the process's cgroup, of that controller (cgroup v1) or of the one hierarchy (v2, no controller)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and (controller or number == "0"):
            return Path("/sys/fs/cgroup") / controller / path.lstrip("/") / name
    return Path("/nonexistent")
