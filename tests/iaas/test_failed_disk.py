"""A disk that fails under an agent, and under a controller: it is said for what it is, and nothing is touched because of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.free_ports import free_port
from tests.iaas.clouds import Cloud, FakeHost, eventually

from garbi.base.errors import NoSpace, NothingFits, StorageFailed
from garbi.base.token import new_secret
from garbi.hyper.model.machine import MachineSpec as HostSpec
from garbi.iaas.model.machine import MachineSpec
from garbi.iaas.model.node import NodeSpec, NodeState
from garbi.storage import writable

pytestmark = pytest.mark.root


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Disk:
    """A file system of the test's own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._device = run("findmnt", "-no", "SOURCE", str(place)).rpartition("/")[2]

    def fail(self) -> None:
        """Let the kernel find an error in the file system, which makes it read-only whoever writes there."""
        Path(f"/sys/fs/ext4/{self._device}/trigger_fs_error").write_text("1")


@contextmanager
def disk(file: Path, place: Path, size: str = "48M") -> Iterator[Disk]:
    run("truncate", "-s", size, str(file))
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(file))
    place.mkdir(exist_ok=True)
    run("mount", "-o", "loop,errors=remount-ro", str(file), str(place))
    try:
        yield Disk(place)
    finally:
        run("umount", "-l", str(place))


@pytest.fixture
def bad(place: Path) -> Iterator[Disk]:
    """The disk of the first host's agent; what its machines are made of is elsewhere."""
    with disk(place / "disk.img", place / "n1") as made:
        yield made


def host_on(cloud: Cloud) -> FakeHost:
    engine = cloud.root / "engine-n1"
    engine.mkdir()
    return cloud.host({"engine": str(engine)})


def test_a_disk_that_fails_is_said_to_have_failed_and_its_node_gets_nothing_new(bad: Disk, cloud: Cloud) -> None:
    first, second = host_on(cloud), cloud.host()
    for host in (first, second):
        cloud.join(host)
    cloud.add(id="m", node="n1")
    bad.fail()
    with pytest.raises(StorageFailed) as refused:
        first.client.machines.add({"image": "any", "type": "fake"})
    assert "free" not in refused.value.detail
    answer = httpx.get(
        f"http://127.0.0.1:{first.port}/hyper/health", headers={"Authorization": f"Bearer {first.token}"}
    )
    assert (answer.status_code, answer.json()["code"]) == (503, "storage-failed")
    assert "ead-only file system" in answer.json()["detail"]
    eventually("the controller knows", lambda: cloud.controller.nodes.get("n1").unwritable)
    node = cloud.controller.nodes.get("n1")
    assert node.state is NodeState.READY
    assert "it cannot write on its disk" in node.words
    with pytest.raises(NothingFits, match="cannot write on its disk"):
        cloud.controller.machines.add(MachineSpec(image="any", type="fake", mem=16, node="n1"))
    assert {cloud.add(id=f"new-{number}").node for number in range(3)} == {"n2"}
    cloud.reopen()  # another controller, which the host cannot write down
    eventually("it answers the next one, too", lambda: cloud.controller.nodes.get("n1").seen_at > node.seen_at)
    assert cloud.controller.nodes.get("n1").state is NodeState.READY
    assert first.running() == ["m"]


def test_a_disk_that_can_be_written_again_is_good_by_itself(
    bad: Disk, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writable, "AGAIN_S", 0.1)
    host = host_on(cloud)
    cloud.join(host)
    database = host.agent._parts.database
    database._writable.note_failure("disk I/O error")  # as the next write would
    eventually("it is good again", lambda: not database.unwritable())
    eventually("the controller knows", lambda: not cloud.controller.nodes.get("n1").unwritable)
    assert cloud.add(id="m", node="n1").node == "n1"


def test_a_full_disk_is_still_a_full_disk_and_says_how_much_is_left(bad: Disk, cloud: Cloud) -> None:
    host = host_on(cloud)
    fill(bad.place)
    with pytest.raises(NoSpace, match=r"[KM]iB left|0 bytes left"):
        host.agent.machines.add(HostSpec(image="any", type="fake", mem=16))
    assert not host.agent.unwritable()


def fill(place: Path) -> None:
    with (place / "much").open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            return


def test_the_disk_of_a_controller_that_fails_is_said_to_have_failed(place: Path, cloud: Cloud) -> None:
    with disk(place / "disk.img", place / "controller") as bad:
        controller = cloud.controller
        bad.fail()
        with pytest.raises(StorageFailed):
            controller.nodes.add(NodeSpec("n9", "127.0.0.1", free_port(), provision=False), new_secret())
        assert not controller.healthy()
        assert controller.unwritable()
        cloud.close_controller()
