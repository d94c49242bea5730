"""The audit of a cloud names each invariant that is broken: each test breaks one, and sees it named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.observability.conftest import eventually, named, tamper

from garbi.devcloud import DevCloud
from garbi.hyper_api.client import HyperClient
from garbi.iaas.controller.audit import AUDITED
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.settings import DATABASE

SPEC = {"image": "any", "type": "fake", "mem": 16, "id": "web", "node": "node-1"}


@pytest.fixture
def cloud() -> Iterator[DevCloud]:
    """A cloud of two nodes with a machine that runs, all in order; nothing looks at everything while a test breaks it."""
    with DevCloud(nodes=2) as cloud:
        cloud.client.machines.add(SPEC)
        eventually("all is in order", lambda: cloud.controller.audit() == [])
        yield cloud


def database_of(cloud: DevCloud) -> Path:
    return cloud.controller.settings.data_dir / DATABASE


def still(cloud: DevCloud) -> None:
    """Have nobody repair what is broken."""
    cloud.controller._parts.work.end()


def host_of(cloud: DevCloud, name: str) -> HyperClient:
    node = cloud.nodes[name]
    return HyperClient(f"http://{node.address}", token=node.agent.secret)


def copy_to(cloud: DevCloud, node: str) -> None:
    """Make the machine on another node too, as a controller that went wrong would."""
    (original,) = host_of(cloud, "node-1").machines.list()
    spec = {
        "image": "any",
        "type": "fake",
        "mem": 16,
        "id": "web",
        "labels": original["labels"],
        "on_node_failure": "stay",
    }
    assert host_of(cloud, node).machines.add(spec)["state"] == "running"


def test_i1_a_machine_that_runs_twice(cloud: DevCloud) -> None:
    still(cloud)
    copy_to(cloud, "node-2")
    assert "node-2" in named(cloud.controller.audit(), "I1")["web"]


def test_i2_a_port_of_a_machine_elsewhere(cloud: DevCloud) -> None:
    still(cloud)
    values = "('web', 'node-2', 'tcp', '0.0.0.0', 8080, 80)"
    columns = "machine_id, node, protocol, address, node_port, machine_port"
    tamper(database_of(cloud), f"INSERT INTO ports ({columns}) VALUES {values}")
    assert "8080/tcp" in named(cloud.controller.audit(), "I2")["node node-2"]


def test_i3_a_reservation_that_is_not_what_machines_have(cloud: DevCloud) -> None:
    still(cloud)
    tamper(database_of(cloud), "UPDATE nodes SET reserved_mem = 1 WHERE name = 'node-1'")
    assert "its machines have 16" in named(cloud.controller.audit(), "I3")["node node-1"]


def test_i4_a_machine_that_is_lost_from_sight(cloud: DevCloud) -> None:
    still(cloud)
    tamper(database_of(cloud), "DELETE FROM machines WHERE id = 'web'")
    found = cloud.controller.audit()
    assert named(found, "I4") == {"machine web": "it was created, and is neither here nor removed"}
    assert named(found, "I5") == {"web": "running on node-1, but no machine has this id"}


def test_i4_a_failure_without_a_cause(cloud: DevCloud) -> None:
    still(cloud)
    tamper(database_of(cloud), "UPDATE machines SET state = 'failed', reason = ''")
    assert named(cloud.controller.audit(), "I4").keys() == {"machine web"}


def test_i4_a_machine_that_is_not_as_wished_and_does_not_say_why(cloud: DevCloud) -> None:
    still(cloud)
    tamper(database_of(cloud), "UPDATE machines SET wish = 'stopped'")
    detail = "it is running and to be stopped, and says nothing of why"
    assert named(cloud.controller.audit(), "I4") == {"machine web": detail}


def test_i5_a_settled_machine_that_is_nowhere(cloud: DevCloud) -> None:
    still(cloud)
    host_of(cloud, "node-1").machines.remove("web", wait_s=60)
    assert named(cloud.controller.audit(), "I5") == {"web": "running here, absent on node-1"}


def test_i5_a_copy_that_was_left_behind_and_does_not_run(cloud: DevCloud) -> None:
    still(cloud)
    copy_to(cloud, "node-2")
    host_of(cloud, "node-2").machines.wish("web", "stopped", wait_s=60)
    assert named(cloud.controller.audit(), "I1") == {}
    assert named(cloud.controller.audit(), "I5") == {"web": "stopped on node-2, but it belongs on node-1"}


def test_i5_and_i10_contents_that_nobody_needs_and_images_without_content(cloud: DevCloud) -> None:
    cloud.client.images.add("disk", "raw", [b"\0" * 1024], 1024)
    contents = cloud.controller.settings.data_dir / "images" / "sha256"
    (content,) = contents.iterdir()
    (contents / ("e" * 64)).write_bytes(b"stray")
    content.unlink()
    found = cloud.controller.audit()
    assert named(found, "I5").keys() == {f"image {'e' * 16}"}
    assert named(found, "I10").keys() == {"image disk"}


def test_i7_an_operation_that_nothing_will_end(cloud: DevCloud) -> None:
    still(cloud)
    tamper(database_of(cloud), "UPDATE operations SET state = 'running'", "UPDATE machines SET operation = 'other'")
    assert any("is in another operation" in detail for detail in named(cloud.controller.audit(), "I7").values())


def test_i11_an_assignment_and_a_lease_that_are_not_the_present_ones(cloud: DevCloud) -> None:
    still(cloud)
    tamper(database_of(cloud), "UPDATE machines SET epoch = 7", "UPDATE nodes SET lease = 0")
    found = named(cloud.controller.audit(), "I11")
    assert found["web"] == "on node-1 from assignment 1, not 7"
    assert found["node node-2"] == "it obeys number 1 of the lease, and the newest that is known here is 0"


def test_i14_a_secret_that_others_may_read(cloud: DevCloud) -> None:
    cloud.token_file.chmod(0o644)
    assert "-rw-r--r--" in named(cloud.controller.audit(), "I14")["token"]


def test_a_node_that_does_not_answer_is_told_and_breaks_nothing(cloud: DevCloud) -> None:
    still(cloud)
    cloud.nodes["node-2"].stop()
    found = cloud.controller.audit()
    assert [(each.subject, each.certain) for each in found] == [("node-2", False)]
    assert found[0].detail.startswith("cannot be checked")


def found_events(cloud: DevCloud) -> list[Event]:
    return [event for event in cloud.controller.events.since(0, 10_000) if event.subject is Subject.AUDIT]


def test_what_the_regular_audit_finds_is_told_once_and_once_when_it_is_gone() -> None:
    with DevCloud(nodes=1, audit_period_s=0.1) as cloud:
        cloud.token_file.chmod(0o644)
        eventually("it is told", lambda: bool(found_events(cloud)))
        (event,) = found_events(cloud)
        assert (event.kind, event.id, event.state, event.actor) == ("violation", "token", "I14", "controller")
        assert event.reason.startswith("others may read or write")
        cloud.token_file.chmod(0o600)
        eventually("it is told to be gone", lambda: len(found_events(cloud)) == 2)
        assert found_events(cloud)[-1].kind == "resolved"


def test_every_invariant_that_is_said_to_be_audited_has_a_test_here() -> None:
    tests = " ".join(name for name in globals() if name.startswith("test_i"))
    assert [name for name in AUDITED if f"{name.lower()}_" not in tests] == []
