"""Operations, images, single values and events in the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.iaas_store.cloud import NOW, Cloud, make_node

from garbi.base.errors import AlreadyExists, Conflict, ImageInUse, InvalidField, NotFound
from garbi.hyper_api.vocabulary import ImageState, ImageType
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.model.image import Image
from garbi.iaas.model.machine import MachineSpec
from garbi.iaas.model.operation import Operation, OperationKind, OperationState
from garbi.iaas.store import events, meta, nodes, operations

LATER = NOW + timedelta(seconds=1)
OPERATION = Operation(
    id="op1", kind=OperationKind.NODE_ADD, target="n1", state=OperationState.RUNNING, step=1, steps=3, progress=0.0,
    message="begins", error=None, created_at=NOW, updated_at=NOW, finished_at=None,
)  # fmt: skip
QUEUED = Image("tiny", ImageType.RAW, 0, 0, "", ImageState.QUEUED, "", NOW)
ACTIVE = replace(QUEUED, size=3, virtual_size=9, sha256="abc", state=ImageState.ACTIVE)


def test_an_operation_goes_on_until_it_ends_and_ends_once(cloud: Cloud) -> None:
    with cloud.write() as transaction:
        operations.insert(transaction, OPERATION)
        assert operations.find(transaction.connection, "op1") == OPERATION
        after = operations.progress(transaction, "op1", LATER, step=2, progress=0.4, message="copies")
        assert after == replace(OPERATION, step=2, progress=0.4, message="copies", updated_at=LATER)
        assert operations.running(transaction.connection) == [after]
        problem = {"code": "provisioning-failed", "detail": "no python"}
        assert operations.finish(transaction, "op1", OperationState.FAILED, LATER, error=problem)
        assert not operations.finish(transaction, "op1", OperationState.DONE, LATER)
        assert operations.progress(transaction, "op1", LATER, progress=0.9) is None
        assert operations.progress(transaction, "nothing", LATER, progress=0.9) is None
    with cloud.read() as connection:
        failed = operations.find(connection, "op1")
        assert failed is not None
        assert (failed.state, failed.error, failed.finished_at) == (OperationState.FAILED, problem, LATER)
        assert operations.running(connection) == []
    assert [(each.kind, each.reason) for each in cloud.events()] == [
        ("created", "begins"),
        ("state", "copies"),
        ("finished", "no python"),
    ]


def test_progress_within_a_step_is_told_but_not_kept(cloud: Cloud) -> None:
    told: list[Event] = []
    cloud.database.on_commit(told.extend)
    with cloud.write() as transaction:
        operations.insert(transaction, OPERATION)
        operations.progress(transaction, "op1", LATER, progress=0.1)
    assert [(event.seq, event.id) for event in told] == [(1, "op1"), (0, "op1")]
    assert [event.seq for event in cloud.events()] == [1]


def test_operations_are_listed_by_fields_and_in_pages(cloud: Cloud) -> None:
    with cloud.write() as transaction:
        for number in range(4):
            operations.insert(transaction, replace(OPERATION, id=f"op{number}", target=f"n{number % 2}"))
        operations.finish(transaction, "op2", OperationState.DONE, LATER)
    with cloud.read() as connection:
        assert [each.id for each in operations.list(connection)] == ["op0", "op1", "op2", "op3"]
        assert [each.id for each in operations.list(connection, {"target": "n0", "state": "done"})] == ["op2"]
        assert [each.id for each in operations.list(connection, limit=2, marker="op0")] == ["op1", "op2"]
        with pytest.raises(InvalidField):
            operations.list(connection, marker="nothing")


def test_an_image_gets_its_content_once(cloud: Cloud) -> None:
    cloud.images.insert(QUEUED)
    with pytest.raises(AlreadyExists):
        cloud.images.insert(QUEUED)
    cloud.images.save(ACTIVE)
    cloud.images.save(ACTIVE)
    assert cloud.images.get("tiny") == ACTIVE
    assert cloud.images.list() == [ACTIVE]
    with pytest.raises(Conflict):
        cloud.images.save(replace(ACTIVE, sha256="def"))
    with pytest.raises(NotFound):
        cloud.images.save(replace(ACTIVE, name="nothing"))
    assert [(event.kind, event.state) for event in cloud.events()] == [("created", "queued"), ("state", "active")]


def test_an_image_stays_while_machines_use_it(cloud: Cloud) -> None:
    cloud.add_node()
    cloud.images.insert(ACTIVE)
    cloud.add_machine("unrelated")
    cloud.images.delete("tiny")
    assert not cloud.images.digest_in_use("abc")
    cloud.images.insert(ACTIVE)
    machine = cloud.placement.accept(MachineSpec(image="tiny", id="web"))
    assert machine.image_sha256 == "abc"
    with pytest.raises(ImageInUse, match="web") as refusal:
        cloud.images.delete("tiny")
    assert refusal.value.extra["machines"] == ["web"]
    assert cloud.images.digest_in_use("abc")
    assert not cloud.images.digest_in_use("def")
    with pytest.raises(NotFound):
        cloud.images.delete("nothing")


def test_a_single_value_is_set_once_or_replaced(cloud: Cloud) -> None:
    assert meta.get_or_set(cloud.database, meta.CLUSTER_ID, "first") == "first"
    assert meta.get_or_set(cloud.database, meta.CLUSTER_ID, "second") == "first"
    with cloud.write() as transaction:
        meta.put(transaction, meta.CLUSTER_ID, "third")
    with cloud.read() as connection:
        assert meta.get(connection, meta.CLUSTER_ID) == "third"
        assert meta.get(connection, "nothing") is None


def test_events_are_read_on_from_the_last_one_seen(cloud: Cloud) -> None:
    with cloud.write() as transaction:
        for number in range(5):
            events.append(transaction, Subject.MACHINE, f"m{number}", "state", NOW, state="running", actor="node:n1")
    with cloud.read() as connection:
        assert [event.id for event in events.since(connection, 2, 2)] == ["m2", "m3"]
        assert events.last_seq(connection) == 5
        assert events.removal_of(connection, Subject.MACHINE, "m1") is None
    assert cloud.events()[0] == Event(1, NOW, Subject.MACHINE, "m0", "state", "running", "node:n1", "")


def test_what_is_undone_is_told_to_nobody(cloud: Cloud) -> None:
    told: list[Event] = []
    cloud.database.on_commit(told.extend)
    twice = (make_node("n1"), make_node("n1"))
    with pytest.raises(AlreadyExists), cloud.write() as transaction:
        [nodes.insert(transaction, node, NOW) for node in twice]
    assert (told, cloud.events()) == ([], [])
