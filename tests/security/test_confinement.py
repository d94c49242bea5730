"""Threats A and D: what a machine is held in, as the kernel tells it, and images that ask for more than that."""

from __future__ import annotations

import io
import json
import os
import secrets
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.host.agent.host_agent import HostAgent, eventually, output
from tests.host.docker_archives import BUSYBOX, RUN_UNTIL_ASKED, busybox_tree, image_config, saved_archive, tar_of
from tests.security.guest_programs import DONE, writer

from garbi.base.errors import ImageRejected
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]

CAPABILITIES = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 10))
"""chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service."""

DEVICES = {
    *("console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts"),
    *("random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"),
}
OWN_FILES = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}

ESCAPES = {
    "mount": "busybox mount -t tmpfs none /tmp",
    "mount-proc": "busybox mount -t proc none /proc",
    "device": "busybox mknod /disk b 8 0",
    "raw-socket": "busybox ping -c 1 -W 1 127.0.0.1",
    "interface": "busybox ip link set eth0 down",
    "host-name": "busybox hostname other",
    "clock": "busybox date -s 2001-01-01; busybox date | busybox grep -q 2001",
    "kernel-setting": "echo 1 > /proc/sys/kernel/panic",
    "sysrq": "echo b > /proc/sysrq-trigger",
    "core-pattern": "echo x > /proc/sys/kernel/core_pattern",
    "kernel-memory": "busybox head -c 1 /proc/kcore | busybox grep -q .",
    "cgroup": "d=/sys/fs/cgroup/memory; [ -d $d ] || d=/sys/fs/cgroup; busybox mkdir $d/escape",
    "namespace": "busybox unshare -m busybox true",
    "root": "busybox chroot / busybox true",
    "docker": "busybox ls /var/run/docker.sock",
}


@pytest.fixture
def run_container(host: HostAgent) -> Iterator[Callable[..., str]]:
    """Runs a container of an image with a shell script and further configuration; gives its id."""
    made: list[str] = []

    def run(script: str = RUN_UNTIL_ASKED, tags: tuple[str, ...] = (), **config: Any) -> str:
        name = f"c-{secrets.token_hex(4)}"
        layers = [busybox_tree({"etc/passwd": b"root:x:0:0::/:/bin/sh\n", "etc/group": b"root:x:0:\n"})]
        content = saved_archive(layers, image_config(layers, ["/bin/sh", "-c", script], **config), tags)
        host.agent.images.add(name, ImageType.DOCKER, [content])
        made.append(name)
        host.run(name, name, mem=32)
        return name

    yield run
    for name in made:
        host.remove(name)
        host.agent.images.remove(name)


def inspected(host: HostAgent, machine_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output("docker", "inspect", host.daemon_name(machine_id)))[0]
    return found


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_container_is_held_by_the_kernel(host: HostAgent, run_container: Callable[..., str]) -> None:
    machine_id = run_container()
    pid = host.pid(machine_id, "container")
    status = status_of(pid)
    assert {int(status[each], 16) & ~CAPABILITIES for each in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    spaces = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    assert [
        each for each in spaces if os.readlink(f"/proc/{pid}/ns/{each}") == os.readlink(f"/proc/self/ns/{each}")
    ] == []
    assert set(os.listdir(f"/proc/{pid}/root/dev")) <= DEVICES
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    of_disks = {words[4] for words in mounts if words[words.index("-") + 2].startswith("/dev/")}
    assert of_disks <= OWN_FILES


def test_root_in_a_container_gets_nowhere(host: HostAgent, run_container: Callable[..., str]) -> None:
    script = "\n".join(f"({attempt}) 2>/dev/null && echo BROKE {name}" for name, attempt in ESCAPES.items())
    machine_id = run_container(f"{script}\necho {DONE}; {RUN_UNTIL_ASKED}")
    eventually("all was tried", lambda: DONE.encode() in host.agent.machines.console_log(machine_id, 9999))
    assert b"BROKE" not in host.agent.machines.console_log(machine_id, 9999)


NODES = {"disk": (tarfile.BLKTYPE, 254, 0), "memory": (tarfile.CHRTYPE, 1, 1), "log": (tarfile.CHRTYPE, 1, 11)}


def test_devices_and_setuid_programs_of_an_image_lead_nowhere(host: HostAgent) -> None:
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as tar:
        for name, (kind, major, minor) in NODES.items():
            node = tarfile.TarInfo(name)
            node.type, node.devmajor, node.devminor, node.mode = kind, major, minor, 0o666
            tar.addfile(node)
        program = tarfile.TarInfo("suid/busybox")
        program.size, program.mode = len(BUSYBOX.read_bytes()), 0o4755
        tar.addfile(program, io.BytesIO(BUSYBOX.read_bytes()))
    layers = [busybox_tree({"etc/passwd": b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"}), tree.getvalue()]
    reads = "; ".join(f"busybox test -e /{name} && busybox head -c 1 /{name} && echo BROKE {name}" for name in NODES)
    script = f"{reads}; echo I am $(/suid/busybox id -u); echo {DONE}; {RUN_UNTIL_ASKED}"
    content = saved_archive(layers, image_config(layers, ["/bin/sh", "-c", script], User="user"))
    host.agent.images.add("nodes", ImageType.DOCKER, [content])
    host.run("nodes", "nodes", mem=32)
    eventually("all was tried", lambda: DONE.encode() in host.agent.machines.console_log("nodes", 9999))
    said = host.agent.machines.console_log("nodes", 9999)
    assert b"BROKE" not in said
    assert said.count(b"Operation not permitted") == len(NODES)
    assert b"I am 1000" in said
    host.remove("nodes")
    host.agent.images.remove("nodes")


def test_a_virtual_machine_is_held_by_the_kernel_and_has_no_way_to_files_or_ports(host: HostAgent) -> None:
    host.agent.images.add("quiet", ImageType.RAW, [writer(b"")])
    host.run("quiet", "quiet", mem=32)
    pid = host.pid("quiet", "vm")
    status = status_of(pid)
    assert "0" not in status["Uid"].split()
    assert (int(status["CapEff"], 16), status["Seccomp"]) == (0, "2")
    name = host.daemon_name("quiet")
    domain = ET.fromstring(output("virsh", "-c", "qemu:///system", "dumpxml", name))
    wanted = {"emulator", "disk", "controller", "interface", "serial", "console", "input", "audio"}
    wanted |= {"memballoon", "rng", "panic"}
    assert {each.tag for each in domain.findall("devices/*")} <= wanted
    assert not list(domain.iter("graphics"))
    assert {each.get("type") for each in domain.findall("devices/disk")} == {"file"}
    inodes = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert [line for line in listening if f"socket:[{line[9]}]" in inodes] == []
    host.remove("quiet")
    host.agent.images.remove("quiet")


def test_cve_2026_53488_what_an_image_says_of_itself_configures_nothing(
    host: HostAgent, run_container: Callable[..., str]
) -> None:
    plain = inspected(host, run_container())
    hostile = run_container(
        Labels={
            **{"garbi.cluster": "0" * 32, "garbi.machine": "other", "garbi.label.team": "$(reboot)"},
            **{"io.containerd.runc.v2.group": "x", "io.podman.annotations.privileged": "TRUE", "a\n{{7*7}}": "\x1b[2J"},
        },
        ExposedPorts={"22/tcp": {}, "1-65535/udp": {}},
        Volumes={"/etc:/host": {}},
        HostConfig={"Privileged": True, "Binds": ["/:/host"], "NetworkMode": "host", "PidMode": "host"},
        **{"Hostname": "host", "Privileged": True, "NetworkDisabled": True, "OpenStdin": True, "Tty": True},
    )
    found = inspected(host, hostile)
    assert found["HostConfig"] == plain["HostConfig"]
    assert found["Config"]["Hostname"] == hostile
    assert (found["Config"]["Tty"], found["Config"]["OpenStdin"]) == (False, False)
    assert found["NetworkSettings"]["Ports"].keys() == {"22/tcp"} | found["NetworkSettings"]["Ports"].keys()
    assert [bound for bound in found["NetworkSettings"]["Ports"].values() if bound] == []
    assert [mount["Type"] for mount in found["Mounts"]] == ["volume"]
    ours = found["Config"]["Labels"]
    assert (ours["garbi.cluster"], ours["garbi.machine"]) == (host.cluster_id, hostile)
    assert host.agent.machines.get(hostile).labels == {}
    assert host.agent.audit() == []


@pytest.mark.parametrize("signal", ["garbage", "9999", "-9", "TERM; reboot", "\n"])
def test_a_container_can_be_stopped_whatever_signal_its_image_asks_for(
    host: HostAgent, run_container: Callable[..., str], signal: str
) -> None:
    machine_id = run_container(StopSignal=signal)
    stopped = host.wish(machine_id, Wish.STOPPED)
    assert (stopped.state, stopped.reason) == (State.STOPPED, "")


def test_an_image_cannot_have_the_engine_run_something_all_the_time(
    host: HostAgent, run_container: Callable[..., str]
) -> None:
    check = {"Test": ["CMD", "/bin/busybox", "true"], "Interval": 1_000_000, "Retries": 1}
    machine_id = run_container(Healthcheck=check)
    found = inspected(host, machine_id)
    assert found["Config"]["Healthcheck"]["Test"] == ["NONE"]
    assert "Health" not in found["State"]


def test_an_image_that_wants_thousands_of_directories_of_the_host_is_refused(host: HostAgent) -> None:
    layers = [busybox_tree()]
    volumes = {f"/v{number}": {} for number in range(5000)}
    content = saved_archive(layers, image_config(layers, ["/bin/sh"], Volumes=volumes))
    host.agent.images.add("bomb", ImageType.DOCKER, [content])
    machine = host.add("bomb", "bomb", mem=32)
    assert machine.state is State.FAILED
    assert "volumes" in machine.reason
    host.remove("bomb")
    host.agent.images.remove("bomb")


def test_no_archive_moves_a_name_of_the_host(
    host: HostAgent, run_container: Callable[..., str], tmp_path: Path
) -> None:
    tag = f"garbi-test-{secrets.token_hex(4)}:latest"
    (tmp_path / "tree.tar").write_bytes(tar_of({"x": b"x"}))
    before = output("docker", "import", str(tmp_path / "tree.tar"), tag)
    try:
        run_container(tags=(tag,))
        assert output("docker", "image", "inspect", "-f", "{{.Id}}", tag) == before
    finally:
        output("docker", "image", "rm", tag)


def test_what_an_archive_declares_besides_an_image_is_refused(host: HostAgent) -> None:
    layers = [busybox_tree()]
    config = image_config(layers, ["/bin/sh"])
    two = json.dumps([{"Config": "c", "RepoTags": [], "Layers": ["l"]}] * 2).encode()
    content = tar_of({"c": config, "l": layers[0], "manifest.json": two})
    with pytest.raises(ImageRejected):
        host.agent.images.add("two", ImageType.DOCKER, [content])
