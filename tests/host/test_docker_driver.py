"""The docker driver on this host's engine: what a container really is and does, asked of the kernel and of docker itself."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.free_ports import free_port
from tests.host.docker_archives import RUN_UNTIL_ASKED, shell_image
from tests.host.docker_engines import Engine, eventually

from garbi.base.clock import SystemClock
from garbi.base.errors import AlreadyExists, Conflict, DriverFailed, InvalidField, NotFound, PortTaken
from garbi.hyper.drivers.docker import DockerDriver
from garbi.hyper.drivers.protocol import Condition, DriverContext, ImageFile, MachineDefinition, Observation
from garbi.hyper.images.tiny.echo import udp_echo_program
from garbi.hyper.model.machine import Protocol, PublishedPort

pytestmark = [pytest.mark.docker, pytest.mark.root]

MIB = 1024 * 1024


@dataclass
class Bench:
    """A cluster of the test's own on this host's engine."""

    directory: Path
    cluster_id: str = field(default_factory=lambda: secrets.token_hex(16))
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        self.driver = self.make_driver()

    def make_driver(self) -> DockerDriver:
        context = DriverContext(self.cluster_id, self.directory, SystemClock(), {"host": self.engine.host})
        return DockerDriver(context)

    def image(self, script: str = RUN_UNTIL_ASKED, files: dict[str, bytes] | None = None, **config: Any) -> ImageFile:
        image = shell_image(self.directory / f"{secrets.token_hex(4)}.tar", script, files, **config)
        self.driver.prepare(image)
        return image

    def add(self, image: ImageFile | None = None, **fields: Any) -> str:
        machine_id = f"m-{secrets.token_hex(4)}"
        fields = {"mem": 64, "cpus": 1, **fields}
        self.driver.add(MachineDefinition(machine_id, machine_id, image or self.image(), **fields))
        return machine_id

    def run(self, image: ImageFile | None = None, **fields: Any) -> str:
        machine_id = self.add(image, **fields)
        self.driver.start(machine_id)
        return machine_id

    def container(self, machine_id: str) -> str:
        return f"garbi-{self.cluster_id[:8]}-{machine_id}"

    def inspect(self, machine_id: str) -> dict[str, Any]:
        return self.engine.inspect(self.container(machine_id))

    def look(self, machine_id: str) -> Observation:
        """What is observed of the machine, by itself and among all, which must be the same."""
        (alone,) = self.driver.observe(machine_id)
        (among,) = (each for each in self.driver.observe() if each.machine_id == machine_id)
        assert among == alone
        return alone

    def ended(self, machine_id: str) -> Observation:
        """Wait until the machine has ended; what is observed of it then."""
        eventually(f"{machine_id} ends", lambda: self.driver.observe(machine_id)[0].condition is Condition.STOPPED)
        return self.look(machine_id)

    def console(self, machine_id: str, text: bytes) -> None:
        """Wait until the machine has printed the text."""
        eventually(f"{machine_id} prints {text!r}", lambda: text in self.driver.console_log(machine_id, 10_000))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    try:
        yield bench
    finally:
        bench.driver.close()
        bench.engine.sweep(bench.cluster_id)


def test_a_container_gets_the_limits_of_its_machine_and_no_swap_beyond(bench: Bench) -> None:
    host_config = bench.inspect(bench.add(mem=96, cpus=2))["HostConfig"]
    assert host_config["Memory"] == host_config["MemorySwap"] == 96 * MIB
    assert host_config["NanoCpus"] == 2_000_000_000
    assert 0 < host_config["PidsLimit"] <= 4096


def test_a_running_container_has_no_privileges_no_namespace_of_the_host_and_few_capabilities(bench: Bench) -> None:
    machine_id = bench.run()
    pid = bench.inspect(machine_id)["State"]["Pid"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    allowed = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 10))  # chown … setuid, net_bind_service
    assert int(status["CapBnd"], 16) == allowed
    assert status["NoNewPrivs"] == "1"
    shared = [
        name
        for name in ("cgroup", "ipc", "mnt", "net", "pid", "uts")
        if os.readlink(f"/proc/{pid}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")
    ]
    assert shared == []
    assert bench.inspect(machine_id)["HostConfig"]["RestartPolicy"]["Name"] == "no"


def test_labels_of_the_user_cannot_be_taken_for_the_drivers_own(bench: Bench) -> None:
    machine_id = bench.add(labels={"garbi.cluster": "another", "garbi.machine": "another", "machine": "another"})
    labels = bench.inspect(machine_id)["Config"]["Labels"]
    assert (labels["garbi.cluster"], labels["garbi.machine"]) == (bench.cluster_id, machine_id)
    assert labels["garbi.label.garbi.cluster"] == labels["garbi.label.machine"] == "another"


def test_labels_of_the_image_cannot_be_taken_for_the_drivers_own(bench: Bench) -> None:
    machine_id = bench.add(bench.image(Labels={"garbi.cluster": "another", "garbi.machine": "another"}))
    assert bench.look(machine_id).condition is Condition.STOPPED


def test_published_ports_lead_to_the_machine_over_tcp_and_udp(bench: Bench) -> None:
    served = {"www/index.html": b"a page", "bin/echo-udp": udp_echo_program()}
    image = bench.image("echo-udp & exec busybox httpd -f -p 80 -h /www", served)
    port = free_port()
    ports = (PublishedPort(port, 80), PublishedPort(port, 7, Protocol.UDP))
    machine_id = bench.run(image, ports=ports)
    assert bench.look(machine_id).address
    eventually("the page", lambda: b"a page" in _get(port))
    eventually("the echo", lambda: _echo(port) == b"hello")


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_port_that_a_process_of_the_host_holds_is_taken_and_the_machine_can_start_later(
    bench: Bench, protocol: Protocol
) -> None:
    kind = socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("0.0.0.0", 0))
        port = holder.getsockname()[1]
        free = free_port()
        machine_id = bench.add(ports=(PublishedPort(free, 81), PublishedPort(port, 80, protocol)))
        with pytest.raises(PortTaken) as caught:
            bench.driver.start(machine_id)
        assert (caught.value.extra["node_port"], caught.value.extra["protocol"]) == (port, protocol)
        assert bench.look(machine_id) == Observation(machine_id, Condition.STOPPED)
        with socket.socket() as other:
            other.bind(("0.0.0.0", free))  # the start that failed let go of the port that was free
    bench.driver.start(machine_id)
    assert bench.look(machine_id).condition is Condition.RUNNING


def test_a_port_that_another_container_holds_is_taken(bench: Bench) -> None:
    port = free_port()
    bench.run(ports=(PublishedPort(port, 80),))
    with pytest.raises(PortTaken) as caught:
        bench.run(ports=(PublishedPort(port, 80),))
    assert caught.value.extra["node_port"] == port


@pytest.mark.parametrize(("name", "value"), [("mem", 5), ("cpus", 10_000)])
def test_limits_that_the_engine_cannot_keep_are_refused_and_leave_nothing(bench: Bench, name: str, value: int) -> None:
    with pytest.raises(InvalidField) as caught:
        bench.add(None, **{name: value})
    assert caught.value.extra["field"] == name
    assert bench.driver.observe() == []


def test_stop_sends_the_signal_that_the_image_asks_for(bench: Bench) -> None:
    image = bench.image(
        "trap 'exit 7' USR1; echo ready; while :; do busybox sleep 60 & wait $!; done", StopSignal="SIGUSR1"
    )
    machine_id = bench.run(image)
    bench.console(machine_id, b"ready")
    bench.driver.stop(machine_id)
    assert bench.ended(machine_id).failure == "exited with code 7"


def test_stop_returns_at_once_when_the_machine_does_not_listen_and_kill_ends_it(bench: Bench) -> None:
    machine_id = bench.run(bench.image("trap '' TERM; echo ready; while :; do busybox sleep 60; done"))
    bench.console(machine_id, b"ready")
    bench.driver.stop(machine_id)
    assert bench.look(machine_id).condition is Condition.RUNNING
    bench.driver.kill(machine_id)
    assert bench.look(machine_id) == Observation(machine_id, Condition.STOPPED, "exited with code 137")


def test_a_paused_machine_ends_when_it_is_asked_to(bench: Bench) -> None:
    machine_id = bench.run()
    bench.console(machine_id, b"ready")
    bench.driver.pause(machine_id)
    assert bench.look(machine_id).condition is Condition.PAUSED
    bench.driver.stop(machine_id)
    assert bench.ended(machine_id) == Observation(machine_id, Condition.STOPPED)


def test_a_machine_that_wants_more_memory_than_it_has_is_killed_and_that_is_said(bench: Bench) -> None:
    machine_id = bench.run(bench.image("x=aaaaaaaa; while :; do x=$x$x; done"), mem=16)
    assert bench.ended(machine_id).failure == "killed: out of memory"


def test_a_machine_that_ends_says_with_which_code_and_none_is_no_failure(bench: Bench) -> None:
    bad, good, new = bench.run(bench.image("exit 3")), bench.run(bench.image("exit 0")), bench.add()
    assert bench.ended(bad).failure == "exited with code 3"
    assert bench.ended(good).failure == ""
    assert bench.look(new) == Observation(new, Condition.STOPPED)


def test_a_command_that_the_image_does_not_have_is_an_error_in_the_engines_words(bench: Bench) -> None:
    machine_id = bench.add(bench.image("", Entrypoint=["/bin/none"]))
    with pytest.raises(DriverFailed, match="/bin/none"):
        bench.driver.start(machine_id)
    assert bench.look(machine_id).condition is Condition.STOPPED


def test_verbs_of_a_machine_that_is_not_there_do_nothing_or_say_so(bench: Bench) -> None:
    for verb in (bench.driver.stop, bench.driver.kill, bench.driver.remove):
        verb("m-none")
    asking: list[Callable[[str], object]] = [bench.driver.start, bench.driver.pause, bench.driver.figures]
    for question in asking:
        with pytest.raises(NotFound):
            question("m-none")


def test_remove_takes_the_volumes_that_the_image_declares(bench: Bench) -> None:
    machine_id = bench.run(bench.image(Volumes={"/data": {}}))
    (mount,) = bench.inspect(machine_id)["Mounts"]
    bench.driver.remove(machine_id)
    assert mount["Name"] not in bench.engine.docker("volume", "ls", "-q").split()


def test_a_machine_that_many_remove_at_once_is_gone_when_any_of_them_is_told_so(bench: Bench) -> None:
    machine_id = bench.run()

    def remove() -> list[Observation]:
        bench.driver.remove(machine_id)
        return bench.driver.observe(machine_id)

    with ThreadPoolExecutor(8) as pool:
        assert [done.result() for done in [pool.submit(remove) for _ in range(8)]] == [[]] * 8


def test_threads_share_the_driver(bench: Bench) -> None:
    image = bench.image()

    def live() -> Observation:
        machine_id = bench.run(image)
        bench.driver.kill(machine_id)
        (seen,) = bench.driver.observe(machine_id)
        bench.driver.remove(machine_id)
        return seen

    with ThreadPoolExecutor(8) as pool:
        seen = [done.result() for done in [pool.submit(live) for _ in range(16)]]
    assert {each.condition for each in seen} == {Condition.STOPPED}
    assert bench.driver.observe() == []


def test_a_container_made_from_a_copy_of_a_machine_is_not_a_machine(bench: Bench) -> None:
    machine_id = bench.run()
    copy = f"garbi-test-copy-{bench.cluster_id[:8]}"
    bench.engine.docker("commit", bench.container(machine_id), copy)
    try:
        made = bench.engine.docker("run", "-d", "--name", copy, copy)  # it has inherited both labels
        assert [each.machine_id for each in bench.driver.observe()] == [machine_id]
        bench.driver.remove(machine_id)
        assert bench.engine.inspect(made)["State"]["Running"]
    finally:
        bench.engine.docker("rm", "-f", copy, check=False)
        bench.engine.docker("image", "rm", "-f", copy, check=False)


def test_add_is_refused_where_somebody_elses_container_has_the_name(bench: Bench) -> None:
    image = bench.image()
    name = bench.container("m-mine")
    bench.engine.docker("create", "--name", name, f"garbi/{bench.cluster_id[:8]}:{image.sha256}")
    try:
        with pytest.raises(AlreadyExists, match=name):
            bench.driver.add(MachineDefinition("m-mine", "m-mine", image, 64, 1))
        bench.driver.remove("m-mine")
        assert bench.engine.inspect(name)["State"]["Status"] == "created"
    finally:
        bench.engine.docker("rm", "-f", name)


def test_the_console_log_is_a_ring_that_cannot_fill_the_disk(bench: Bench) -> None:
    machine_id = bench.run(bench.image("busybox yes 0123456789abcdef | busybox head -c 4000000; echo the end"))
    bench.ended(machine_id)
    log = Path(bench.inspect(machine_id)["LogPath"])
    assert sum(file.stat().st_size for file in log.parent.glob(log.name + "*")) < 3 * MIB
    assert bench.driver.console_log(machine_id, 8) == b"the end\n"
    assert len(bench.driver.console_log(machine_id, 100_000)) == 100_000


def test_the_console_log_has_both_outputs_of_the_machine(bench: Bench) -> None:
    machine_id = bench.run(bench.image("echo out; echo err >&2"))
    bench.ended(machine_id)
    assert sorted(bench.driver.console_log(machine_id, 1000).splitlines()) == [b"err", b"out"]


def test_figures_grow_with_what_the_machine_does(bench: Bench) -> None:
    machine_id = bench.run(
        bench.image("busybox head -c 300000000 /dev/zero | busybox sha256sum; echo done; " + RUN_UNTIL_ASKED)
    )
    bench.console(machine_id, b"done")
    figures = bench.driver.figures(machine_id)
    assert figures.cpu_seconds > 0.05
    assert 100_000 < figures.memory_bytes < 64 * MIB
    bench.driver.kill(machine_id)
    with pytest.raises(Conflict):
        bench.driver.figures(machine_id)


def test_the_death_of_a_machine_is_reported(bench: Bench) -> None:
    seen: list[str | None] = []
    bench.driver.watch(seen.append)
    eventually("connected", lambda: seen)
    machine_id = bench.run()
    eventually("the start is reported", lambda: seen.count(machine_id) >= 2)
    seen.clear()
    os.kill(bench.inspect(machine_id)["State"]["Pid"], signal.SIGKILL)
    eventually("the death is reported", lambda: machine_id in seen)
    assert bench.look(machine_id).failure == "exited with code 137"


def test_a_listener_that_fails_does_not_end_the_watch(bench: Bench) -> None:
    seen: list[str | None] = []

    def notify(machine_id: str | None) -> None:
        seen.append(machine_id)
        raise RuntimeError("the listener is broken")

    bench.driver.watch(notify)
    eventually("connected", lambda: seen)
    machine_id = bench.add()
    eventually("reported", lambda: machine_id in seen)


def test_close_ends_the_thread_that_waits_for_events(bench: Bench) -> None:
    connected = threading.Event()
    bench.driver.watch(lambda _: connected.set())
    assert connected.wait(60)
    bench.driver.close()
    assert not _threads("docker-events")
    bench.driver.close()


def test_close_ends_the_thread_that_waits_for_an_absent_engine(bench: Bench) -> None:
    bench.engine = Engine(bench.directory / "nobody.sock")
    driver = bench.make_driver()
    driver.watch(lambda _: None)
    driver.close()
    assert not _threads("docker-events")
    bench.engine = Engine()


def test_an_absent_engine_is_told_with_how_to_start_it(bench: Bench) -> None:
    bench.engine = Engine(bench.directory / "nobody.sock")
    info = bench.make_driver().info()
    bench.engine = Engine()
    assert not info.available
    assert "systemctl start docker" in info.reason


def test_an_engine_that_this_user_may_not_ask_is_told_with_how_to_mend_it() -> None:
    script = (
        "import secrets, pathlib; from garbi.base.clock import SystemClock;"
        "from garbi.hyper.drivers.docker import DockerDriver; from garbi.hyper.drivers.protocol import DriverContext;"
        "print(DockerDriver(DriverContext(secrets.token_hex(16), pathlib.Path('/nonexistent'), SystemClock())).info().reason)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "group docker" in said.stdout


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "does not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "nonsense"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "Docker Engine"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n{"Version": "1.13", "ApiVersion": "1.25"} ', "20.10"),
    ],
    ids=["words", "list", "failure", "old engine"],
)
def test_a_stranger_on_the_socket_is_no_engine(bench: Bench, answer: bytes, reason: str) -> None:
    path = bench.directory / "stranger.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        _answer_with(listener, answer)
        bench.engine = Engine(path)
        info = bench.make_driver().info()
    bench.engine = Engine()
    assert not info.available
    assert reason in info.reason


def test_importing_the_package_does_not_load_the_library() -> None:
    script = "import sys, garbi.hyper.drivers.docker; print('docker' in sys.modules, 'requests' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


def _answer_with(listener: socket.socket, answer: bytes) -> None:
    def serve() -> None:
        with listener.accept()[0] as peer:
            peer.recv(10_000)
            peer.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()


def _get(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
            peer.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: peer.recv(1000), b""))
    except OSError:
        return b""


def _echo(port: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(0.5)
        try:
            peer.connect(("127.0.0.1", port))
            peer.send(b"hello")
            return peer.recv(100)
        except OSError:
            return b""


def _threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]
