"""Machines that die: the agent learns it from the event at once, says why, and starts them again when asked to."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.agent.host_agent import (
    CONTAINER,
    KINDS,
    VM,
    HostAgent,
    eventually,
    facts,
    facts_when_up,
    page,
    ports,
)
from tests.host.docker_archives import shell_image

from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import PublishedPort, RestartPolicy, State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]


@pytest.fixture(scope="module")
def webs(host: HostAgent) -> Iterator[dict[str, PublishedPort]]:
    """The pages of one mortal machine of each kind."""
    published = {kind: ports(80)[0] for kind in KINDS}
    for kind, web in published.items():
        host.run(f"mortal-{kind}", kind, web, mem=96, restart=RestartPolicy.NO)
    yield published
    assert host.agent.audit() == []


@pytest.fixture
def alive(host: HostAgent, webs: dict[str, PublishedPort]) -> dict[str, PublishedPort]:
    """The same, all of them up: who died in an earlier test is started again, which is a test as well."""
    for kind, web in webs.items():
        if host.state(f"mortal-{kind}") is not State.RUNNING:
            again = host.wish(f"mortal-{kind}", Wish.RUNNING)
            assert (again.state, again.reason) == (State.RUNNING, "")
        assert facts_when_up(web)["hostname"] == f"mortal-{kind}"
    return webs


CAUSES = {VM: "the QEMU process was killed", CONTAINER: "exited with code 137"}


def test_a_killed_process_fails_its_machine_at_once_and_no_other(
    host: HostAgent, alive: dict[str, PublishedPort]
) -> None:
    for kind in KINDS:
        os.kill(host.pid(f"mortal-{kind}", kind), signal.SIGKILL)
        dead = host.await_state(f"mortal-{kind}", State.FAILED)
        assert (dead.reason, dead.wish) == (CAUSES[kind], Wish.RUNNING)
        if kind is VM:
            assert host.state("mortal-container") is State.RUNNING
            assert facts(alive[CONTAINER])


def test_a_panic_of_the_guest_is_a_failure_that_says_so(host: HostAgent, alive: dict[str, PublishedPort]) -> None:
    page(alive[VM], "/cgi-bin/crash", timeout_s=5)
    assert host.await_state("mortal-vm", State.FAILED).reason == "the guest crashed"


@pytest.mark.parametrize(("path", "code"), [("/cgi-bin/exit", 3), ("/cgi-bin/crash", 134)])
def test_a_container_that_ends_with_a_code_has_failed_with_it(
    host: HostAgent, alive: dict[str, PublishedPort], path: str, code: int
) -> None:
    page(alive[CONTAINER], path)
    assert host.await_state("mortal-container", State.FAILED).reason == f"exited with code {code}"


def test_a_guest_that_powers_off_by_itself_is_stopped_and_stays_so(
    host: HostAgent, alive: dict[str, PublishedPort]
) -> None:
    page(alive[VM], "/cgi-bin/exit", timeout_s=5)
    ended = host.await_state("mortal-vm", State.STOPPED)
    assert (ended.reason, ended.settled) == ("it ended by itself", True)


def test_a_process_that_wants_more_memory_than_the_container_has_is_ended_and_its_machine_lives(
    host: HostAgent, alive: dict[str, PublishedPort]
) -> None:
    before = host.pid("mortal-container", CONTAINER)
    assert "eaten" in page(alive[CONTAINER], "/cgi-bin/eat?40")
    assert "eaten" not in page(alive[CONTAINER], "/cgi-bin/eat?300", timeout_s=30)
    assert facts(alive[CONTAINER])
    assert host.pid("mortal-container", CONTAINER) == before


def test_a_container_whose_first_process_wants_more_memory_than_it_has_fails_for_want_of_memory(
    host: HostAgent, tmp_path: Path
) -> None:
    image = shell_image(tmp_path / "greedy.tar", "exec busybox dd if=/dev/zero of=/dev/null bs=300M count=1")
    host.agent.images.add("greedy", ImageType.DOCKER, [image.path.read_bytes()])
    host.add("greedy", "greedy", mem=64, restart=RestartPolicy.NO)
    assert host.await_state("greedy", State.FAILED).reason == "killed: out of memory"
    host.remove("greedy")
    host.add("greedy", "greedy", mem=64)
    eventually("the second restart is waited for", lambda: "restart 2 of 5 in 10 s" in reason(host, "greedy"))
    assert "killed: out of memory" in reason(host, "greedy")
    stopped = host.wish("greedy", Wish.STOPPED)
    assert (stopped.state, stopped.reason, stopped.restarts) == (State.STOPPED, "", 0)
    host.remove("greedy")
    host.agent.images.remove("greedy")


# Machines that are started again


@pytest.fixture(scope="module")
def lasting(host: HostAgent) -> Iterator[dict[str, PublishedPort]]:
    """The pages of one machine of each kind that is started again when it fails, as all are unless somebody says otherwise."""
    published = {kind: ports(80)[0] for kind in KINDS}
    for kind, web in published.items():
        made = host.run(f"lasting-{kind}", kind, web, mem=96)
        assert made.restart is RestartPolicy.ON_FAILURE
        assert facts_when_up(web)["hostname"] == f"lasting-{kind}"
    yield published
    assert host.agent.audit() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_whose_process_is_killed_answers_again(
    host: HostAgent, lasting: dict[str, PublishedPort], kind: str
) -> None:
    start_anew(host, lasting, kind)
    os.kill(host.pid(f"lasting-{kind}", kind), signal.SIGKILL)
    assert restarted(host, lasting, kind) == CAUSES[kind]
    assert facts_when_up(lasting[kind])["hostname"] == f"lasting-{kind}"


def test_a_virtual_machine_whose_guest_panics_answers_again(host: HostAgent, lasting: dict[str, PublishedPort]) -> None:
    start_anew(host, lasting, VM)
    page(lasting[VM], "/cgi-bin/crash", timeout_s=5)
    assert restarted(host, lasting, VM) == "the guest crashed"
    assert facts_when_up(lasting[VM])["hostname"] == "lasting-vm"


def test_a_container_that_ends_with_a_code_answers_again(host: HostAgent, lasting: dict[str, PublishedPort]) -> None:
    start_anew(host, lasting, CONTAINER)
    page(lasting[CONTAINER], "/cgi-bin/exit")
    assert restarted(host, lasting, CONTAINER) == "exited with code 3"
    assert facts_when_up(lasting[CONTAINER])["hostname"] == "lasting-container"


def test_a_machine_that_its_user_stops_or_that_ends_in_order_stays_so(
    host: HostAgent, lasting: dict[str, PublishedPort]
) -> None:
    for kind in KINDS:
        start_anew(host, lasting, kind)
        stopped = host.wish(f"lasting-{kind}", Wish.STOPPED)
        assert (stopped.state, stopped.reason, stopped.restarts) == (State.STOPPED, "", 0)
    start_anew(host, lasting, VM)
    page(lasting[VM], "/cgi-bin/exit", timeout_s=5)
    assert host.await_state("lasting-vm", State.STOPPED).reason == "it ended by itself"
    assert host.state("lasting-container") is State.STOPPED


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_that_is_always_to_run_answers_again_whatever_ended_it(
    host: HostAgent, tmp_path: Path, kind: str
) -> None:
    image = kind
    if kind is CONTAINER:
        image = "brief"
        content = shell_image(tmp_path / "brief.tar", "exec busybox sleep 1").path.read_bytes()
        host.agent.images.add(image, ImageType.DOCKER, [content])
    web = ports(80)[0]
    host.run("always", image, web, mem=96, restart=RestartPolicy.ALWAYS)
    if kind is VM:
        facts_when_up(web)
        page(web, "/cgi-bin/exit", timeout_s=5)
    eventually("it runs again", lambda: "restart 1 of 5: it ended by itself" in history(host, "always"))
    if kind is VM:
        assert facts_when_up(web)["hostname"] == "always"
    host.remove("always")
    if kind is CONTAINER:
        host.agent.images.remove("brief")


def start_anew(host: HostAgent, published: dict[str, PublishedPort], kind: str) -> None:
    """Have the machine run with all its restarts before it: a user's wish gives them back."""
    machine_id = f"lasting-{kind}"
    if host.state(machine_id) is State.RUNNING and host.agent.machines.get(machine_id).restarts:
        host.wish(machine_id, Wish.STOPPED)
    if host.state(machine_id) is not State.RUNNING:
        host.wish(machine_id, Wish.RUNNING)
    assert facts_when_up(published[kind])["hostname"] == machine_id


def restarted(host: HostAgent, published: dict[str, PublishedPort], kind: str) -> str:
    """Wait until the machine was started again, and nothing else happened; return what ended it."""
    machine_id = f"lasting-{kind}"
    eventually("it is started again", lambda: host.agent.machines.get(machine_id).restarts == 1)
    assert host.await_state(machine_id, State.RUNNING).reason == ""
    told = history(host, machine_id)
    assert told[-2].removesuffix("; restart 1 of 5 now") == told[-1].removeprefix("restart 1 of 5: ")
    return told[-1].removeprefix("restart 1 of 5: ")


def history(host: HostAgent, machine_id: str) -> list[str]:
    """What was said of the machine, in order."""
    events = host.agent.events.since(0, 100_000)
    return [event.reason for event in events if event.machine_id == machine_id and event.reason]


def reason(host: HostAgent, machine_id: str) -> str:
    return host.agent.machines.get(machine_id).reason
