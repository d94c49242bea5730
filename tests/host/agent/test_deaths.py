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
    facts,
    facts_when_up,
    page,
    ports,
)
from tests.host.docker_archives import shell_image

from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import PublishedPort, State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]


@pytest.fixture(scope="module")
def webs(host: HostAgent) -> Iterator[dict[str, PublishedPort]]:
    """The pages of one mortal machine of each kind."""
    published = {kind: ports(80)[0] for kind in KINDS}
    for kind, web in published.items():
        host.run(f"mortal-{kind}", kind, web, mem=96)
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
    page(alive[VM], "/cgi-bin/crash", timeout_s=0.5)
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
    page(alive[VM], "/cgi-bin/exit", timeout_s=0.5)
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
    host.add("greedy", "greedy", mem=64)
    assert host.await_state("greedy", State.FAILED).reason == "killed: out of memory"
    host.remove("greedy")
    host.agent.images.remove("greedy")
