"""What is not ours is never touched, and a purge takes all that is ours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.subject_docker import DockerSubject
from tests.conformance.subject_libvirt import LibvirtQemuSubject
from tests.conformance.subjects import Foreign
from tests.host.agent.host_agent import (
    KINDS,
    HostAgent,
    TinyImages,
    facts_when_up,
    open_directory,
    page_and_echo,
    traces_of,
)

from garbi.base.errors import DataDirLocked, NotFound
from garbi.hyper.model.machine import State, Wish
from garbi.hyper.purge import purge

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]


@pytest.fixture
def host(images: TinyImages) -> Iterator[HostAgent]:
    """An agent that the test itself takes off the host."""
    place = open_directory()
    made = HostAgent(images, place / "data", limits={"stop_deadline_s": 0.5})
    made.take_images()
    yield made
    made.close()
    if made.data_dir.exists():
        purge(made.settings, lambda _: None)
    shutil.rmtree(place)


@pytest.fixture
def strangers(host: HostAgent) -> Iterator[list[Foreign]]:
    """Containers and domains made by hand, some called almost as our machines are, some of another agent."""
    directory = open_directory()
    subjects = (DockerSubject(directory), LibvirtQemuSubject(directory))
    try:
        for subject in subjects:
            subject.make_foreign(host.agent.cluster_id, "ours")
        yield list(subjects)
    finally:
        for subject in subjects:
            subject.remove_foreign()
            subject.close()
        shutil.rmtree(directory)


def changes(strangers: list[Foreign]) -> list[str]:
    return [change for each in strangers for change in each.foreign_changes()]


def test_strangers_are_left_alone_by_every_verb_by_a_restart_and_by_a_purge(
    host: HostAgent, strangers: list[Foreign]
) -> None:
    for kind in KINDS:
        host.run("ours", kind)
        assert {machine.id for machine in host.agent.machines.list()} == {"ours"}
        host.wish("ours", Wish.PAUSED)
        host.wish("ours", Wish.RUNNING)
        host.wish("ours", Wish.STOPPED)
        host.wish("ours", Wish.RUNNING)
        host.close()
        assert host.settled("ours").state is State.RUNNING
        host.remove("ours")
        assert changes(strangers) == []
        host.run("ours", kind)
        host.remove("ours")
    for kind in KINDS:
        host.run(f"ours-{kind}", kind)
    assert host.agent.audit() == []
    host.close()
    purge(host.settings, lambda _: None)
    assert changes(strangers) == []


def test_a_purge_leaves_nothing_of_machines_in_any_state(host: HostAgent) -> None:
    for kind in KINDS:
        web, udp = page_and_echo()
        host.run(f"running-{kind}", kind, web, udp)
        host.add(f"waiting-{kind}", kind, state=Wish.STOPPED)
        host.run(f"frozen-{kind}", kind)
        host.wish(f"frozen-{kind}", Wish.PAUSED)
        facts_when_up(web)
    found = traces_of(host.cluster_id)
    for each in (
        "docker: container",
        "docker: image",
        "virsh",
        "ip: ",
        "nft: ",
        "iptables-save: ",
        "file /",
        "process ",
    ):
        assert any(trace.startswith(each) for trace in found), each
    with pytest.raises(DataDirLocked, match="pid"):
        purge(host.settings, lambda _: None)
    assert {machine.state for machine in host.agent.machines.list()} == {State.RUNNING, State.STOPPED, State.PAUSED}
    host.close()
    said: list[str] = []
    purge(host.settings, said.append)
    assert traces_of(host.cluster_id) == []
    assert not host.data_dir.exists()
    for machine_id in (f"{state}-{kind}" for state in ("running", "waiting", "frozen") for kind in KINDS):
        assert any(machine_id in line for line in said), machine_id
    with pytest.raises(NotFound):
        purge(host.settings, said.append)


def test_a_purge_where_no_agent_ever_worked_touches_nothing(host: HostAgent, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(NotFound, match="no agent"):
        purge(host.settings.__class__(data_dir=tmp_path), lambda _: None)
    assert (tmp_path / "precious").exists()
