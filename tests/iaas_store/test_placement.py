"""A request becomes a machine with a node, a reservation and ports, or a refusal that says why and leaves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.iaas_store.cloud import DOCKER, EXACT, FAKE, LIBVIRT, Cloud, make_node

from garbi.base.errors import (
    AlreadyExists,
    Conflict,
    InvalidField,
    NotFound,
    NothingFits,
    PortTaken,
    StaleWrite,
    UnknownImage,
)
from garbi.hyper_api.vocabulary import ImageState, ImageType, NodeFailurePolicy, Protocol, PublishedPort, State, Wish
from garbi.iaas.controller.placement import Placement
from garbi.iaas.model.machine import MachineSpec, Strategy
from garbi.iaas.model.node import Amounts, NodeState
from garbi.iaas.model.operation import OperationKind
from garbi.iaas.settings import Settings
from garbi.iaas.store import machines, nodes, operations

SOME = Amounts(1000, 10, 100)
WEB = PublishedPort(80, 8080)


def test_an_accepted_machine_has_a_node_a_reservation_an_operation_and_an_event(cloud: Cloud) -> None:
    cloud.add_node()
    machine = cloud.add_machine("web", mem=300)
    assert (machine.node, machine.state, machine.epoch, machine.settled) == ("n1", State.PENDING, 1, False)
    assert cloud.node().reserved == Amounts(300, 1, 0)
    with cloud.read() as connection:
        (operation,) = operations.running(connection)
    assert (operation.id, operation.kind, operation.target) == (machine.operation, OperationKind.MACHINE_ADD, "web")
    assert [(event.subject, event.id, event.kind) for event in cloud.events()][-1] == ("machine", "web", "created")


@pytest.mark.parametrize(
    ("type", "drivers", "chosen"),
    [
        (ImageType.RAW, (DOCKER, FAKE, LIBVIRT), "libvirt"),
        (ImageType.DOCKER, (DOCKER, FAKE, LIBVIRT), "docker"),
        (ImageType.DOCKER, (DOCKER, replace(LIBVIRT, name="abc", image_types=("docker",))), "docker"),
        (ImageType.DOCKER, (replace(DOCKER, name="lxd"), FAKE), "lxd"),
        (ImageType.DOCKER, (replace(DOCKER, available=False), replace(DOCKER, name="lxd")), "lxd"),
    ],
)
def test_the_type_follows_from_the_image(
    cloud: Cloud, type: ImageType, drivers: tuple[nodes.DriverState, ...], chosen: str
) -> None:
    cloud.add_node(drivers=drivers)
    cloud.add_image(type=type)
    assert cloud.placement.accept(MachineSpec(image="tiny")).type == chosen


def test_a_type_that_cannot_use_the_image_is_refused(cloud: Cloud) -> None:
    cloud.add_node()
    cloud.add_image(type=ImageType.DOCKER)
    with pytest.raises(InvalidField, match="libvirt runs qcow2, raw") as refusal:
        cloud.placement.accept(MachineSpec(image="tiny", type="libvirt"))
    assert refusal.value.extra["field"] == "type"


def test_a_type_that_no_node_has_fits_nowhere(cloud: Cloud) -> None:
    cloud.add_node(drivers=(DOCKER,))
    cloud.add_image(type=ImageType.RAW)
    for spec in (
        MachineSpec(image="tiny"),
        MachineSpec(image="tiny", type="libvirt"),
        MachineSpec(image="tiny", type="lxd"),
    ):
        with pytest.raises(NothingFits, match="missing"):
            cloud.placement.accept(spec)


def test_an_image_that_is_not_here_or_not_here_yet_is_unknown(cloud: Cloud) -> None:
    cloud.add_node()
    image = cloud.add_image("good")
    cloud.images.insert(replace(image, name="coming", sha256="", state=ImageState.UPLOADING))
    with pytest.raises(UnknownImage, match="coming, good"):
        cloud.placement.accept(MachineSpec(image="nothing"))
    with pytest.raises(UnknownImage, match="uploading"):
        cloud.placement.accept(MachineSpec(image="coming"))
    assert cloud.add_machine().image_sha256 == ""  # a driver that takes any image needs none here


def test_a_disk_is_what_the_image_unfolds_to_and_may_be_more_not_less(cloud: Cloud) -> None:
    cloud.add_node()
    cloud.add_image("disk", ImageType.QCOW2, virtual_size=5 * 2**20 + 1)
    cloud.add_image("files", ImageType.DOCKER, virtual_size=5 * 2**20)
    disks = {
        (image, disk): cloud.placement.accept(MachineSpec(image=image, disk=disk)).disk
        for image, disk in (("disk", 0), ("disk", 6), ("disk", 9), ("files", 0), ("files", 3))
    }
    assert [*disks.values()] == [6, 6, 9, 0, 3]
    with pytest.raises(InvalidField, match="6 MiB"):
        cloud.placement.accept(MachineSpec(image="disk", disk=5))


def test_what_becomes_of_a_machine_whose_node_dies_follows_from_its_image(cloud: Cloud) -> None:
    cloud.add_node()
    cloud.add_image("disk", ImageType.QCOW2)
    cloud.add_image("files", ImageType.DOCKER)
    stay, recreate = NodeFailurePolicy.STAY, NodeFailurePolicy.RECREATE
    assert cloud.placement.accept(MachineSpec(image="disk")).on_node_failure is stay
    assert cloud.placement.accept(MachineSpec(image="files")).on_node_failure is recreate
    assert cloud.placement.accept(MachineSpec(image="files", on_node_failure=stay)).on_node_failure is stay


def test_the_cloud_has_a_default_of_its_own_for_each_type_and_who_says_something_has_his_way(cloud: Cloud) -> None:
    cloud.add_node()
    cloud.add_image("disk", ImageType.QCOW2)
    cloud.add_image("files", ImageType.DOCKER)
    stay, recreate = NodeFailurePolicy.STAY, NodeFailurePolicy.RECREATE
    settings = Settings.from_environment({"GARBI_IAAS_ON_NODE_FAILURE": "docker=stay, libvirt=recreate"})
    placement = Placement(cloud.database, settings)
    assert placement.accept(MachineSpec(image="disk")).on_node_failure is recreate
    assert placement.accept(MachineSpec(image="files")).on_node_failure is stay
    assert placement.accept(MachineSpec(image="any", type="fake")).on_node_failure is recreate
    assert placement.accept(MachineSpec(image="files", on_node_failure=recreate)).on_node_failure is recreate
    assert placement.accept(MachineSpec(image="disk", on_node_failure=stay)).on_node_failure is stay


@pytest.mark.parametrize(
    "text", ["docker", "docker=pray", "=stay", "Docker=stay", "docker=stay,docker=recreate", "a b=stay"]
)
def test_a_default_that_cannot_be_understood_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        Settings.from_environment({"GARBI_IAAS_ON_NODE_FAILURE": text})
    assert refusal.value.extra["field"] == "on_node_failure"


def test_a_port_has_one_owner_who_is_named_and_is_free_again_when_it_is_gone(cloud: Cloud) -> None:
    cloud.add_node("n1")
    cloud.add_node("n2")
    owner = cloud.add_machine("owner", node="n1", ports=(WEB,))
    with pytest.raises(PortTaken, match="machine owner") as refusal:
        cloud.add_machine("other", node="n1", ports=(PublishedPort(81, 1), WEB))
    assert (refusal.value.extra["holder"], refusal.value.extra["node"]) == ("machine owner", "n1")
    cloud.add_machine("elsewhere", node="n2", ports=(WEB,))
    cloud.add_machine("udp", node="n1", ports=(replace(WEB, protocol=Protocol.UDP),))
    assert cloud.remove_machine(owner)
    assert cloud.add_machine("other", node="n1", ports=(WEB,)).ports == (WEB,)
    assert cloud.findings() == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (MachineSpec(image="a", ports=(WEB,)), "ports"),
        (MachineSpec(image="a", node="N 1"), "node"),
        (MachineSpec(image="a", apart="app"), "apart"),
        (MachineSpec(image="a", mem=0), "mem"),
        (MachineSpec(image="a", disk=-1), "disk"),
        (MachineSpec(image="a", require={"": "x"}), "require"),
        (MachineSpec(image="a", labels={"garbi.epoch": "9"}), "labels"),
        (MachineSpec(image="a", type="../x"), "type"),
        (MachineSpec(image="a", state=Wish.PAUSED), "state"),
        (MachineSpec(image="a", strategy="random"), "strategy"),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_specification_that_cannot_be_is_refused_by_its_field(cloud: Cloud, spec: MachineSpec, field: str) -> None:
    cloud.add_node()
    for ask in (cloud.placement.accept, cloud.placement.explain):
        with pytest.raises(InvalidField) as refusal:
            ask(spec)
        assert refusal.value.extra["field"] == field
    assert cloud.all_machines() == []


def test_an_id_is_one_machine_s(cloud: Cloud) -> None:
    cloud.add_node()
    first = cloud.add_machine("web")
    with pytest.raises(AlreadyExists):
        cloud.add_machine("web", mem=99)
    assert cloud.all_machines() == [first]


def test_what_is_refused_leaves_nothing(cloud: Cloud) -> None:
    cloud.add_node(has=SOME)
    before = len(cloud.events())
    for fields in ({"mem": 1001}, {"cpus": 11}, {"disk": 101}, {"require": {"gpu": "yes"}}, {"node": "nowhere"}):
        with pytest.raises(NothingFits):
            cloud.add_machine(**fields)  # type: ignore[arg-type]
    assert (cloud.node().reserved, cloud.all_machines(), len(cloud.events())) == (Amounts(), [], before)
    with cloud.read() as connection:
        assert operations.list(connection) == []


def test_a_key_makes_one_machine(cloud: Cloud) -> None:
    cloud.add_node()
    spec = MachineSpec(image="any", type="fake", labels={"a": "1"})
    machine = cloud.placement.accept(spec, "key")
    assert cloud.placement.accept(spec, "key") == machine
    assert cloud.placement.accept(spec, "other key") != machine
    with pytest.raises(Conflict, match="different request"):
        cloud.placement.accept(replace(spec, mem=99), "key")
    assert cloud.remove_machine(machine)
    with pytest.raises(NotFound, match="was removed"):
        cloud.placement.accept(spec, "key")


def test_the_key_of_a_machine_that_is_withdrawn_may_be_used_again_and_of_one_that_is_removed_not(cloud: Cloud) -> None:
    cloud.add_node()
    spec = MachineSpec(image="any", type="fake")
    refused = replace(cloud.placement.accept(spec, "key"), refused=True)
    with cloud.write() as transaction:
        machines.withdraw(transaction, refused, refused.created_at)
    again = cloud.placement.accept(spec, "key")
    assert cloud.all_machines() == [again]
    assert cloud.remove_machine(replace(again, refused=True))
    with pytest.raises(NotFound, match="was removed"):
        cloud.placement.accept(spec, "key")


def test_strategies_and_anti_affinity_decide_among_nodes(cloud: Cloud) -> None:
    for name in ("n1", "n2", "n3"):
        cloud.add_node(name, labels={"disk": "ssd" if name == "n3" else "hdd"})
    assert [cloud.add_machine().node for _ in range(3)] == ["n1", "n2", "n3"]
    packed = [cloud.add_machine(strategy=Strategy.PACK, mem=100).node for _ in range(3)]
    assert len({*packed}) == 1
    assert cloud.add_machine(require={"disk": "ssd"}).node == "n3"
    apart = [cloud.add_machine(labels={"app": "db"}, apart="app").node for _ in range(3)]
    assert sorted(map(str, apart)) == ["n1", "n2", "n3"]
    with pytest.raises(NothingFits, match="app=db"):
        cloud.add_machine(labels={"app": "db"}, apart="app")
    assert cloud.add_machine(labels={"app": "cache"}, apart="app").node


def test_a_machine_that_asked_to_be_apart_stays_so_when_another_comes_that_did_not_ask(cloud: Cloud) -> None:
    for name in ("n1", "n2"):
        cloud.add_node(name)
    shy = cloud.add_machine("shy", node="n1", labels={"app": "db", "tier": "1"}, apart="app")
    assert {cloud.add_machine(labels={"app": "db"}).node for _ in range(3)} == {"n2"}
    with pytest.raises(NothingFits, match="app=db"):
        cloud.add_machine(node="n1", labels={"app": "db"})
    assert cloud.add_machine(node="n1", labels={"app": "web", "tier": "1"}).node == "n1"
    with pytest.raises(NothingFits, match="app=db"):
        cloud.placement.replace(shy)


def test_an_explanation_writes_nothing(cloud: Cloud) -> None:
    cloud.add_node("n1", has=SOME)
    cloud.add_node("n2", state=NodeState.ADDING)
    before = len(cloud.events())
    explanation = cloud.placement.explain(MachineSpec(image="any", type="fake"))
    assert explanation.chosen == "n1"
    assert [(verdict.node, verdict.fits, verdict.filter) for verdict in explanation.verdicts] == [
        ("n1", True, ""),
        ("n2", False, "state"),
    ]
    assert cloud.placement.explain(MachineSpec(image="any", type="fake", mem=5000)).chosen is None
    assert (cloud.node().reserved, len(cloud.events())) == (Amounts(), before)


def test_a_machine_is_placed_anew_elsewhere(cloud: Cloud) -> None:
    for name in ("n1", "n2", "n3"):
        cloud.add_node(name)
    machine = cloud.add_machine("web", node="n1", labels={"app": "db"}, apart="app", require={})
    moved = cloud.placement.replace(machine, {"n2"})
    assert (moved.node, moved.epoch) == ("n3", 2)
    assert cloud.machine("web") == moved
    with pytest.raises(StaleWrite):
        cloud.placement.replace(machine)
    with pytest.raises(NothingFits):
        cloud.placement.replace(moved, {"n1", "n2"})
    assert cloud.placement.replace(moved).node in {"n1", "n2"}
    assert cloud.node("n3").reserved == Amounts()
    assert cloud.findings() == []
    assert next(event.reason for event in cloud.events() if event.kind == "moved") == "from n1 to n3"


def test_what_a_node_may_promise_follows_from_its_over_commitment(cloud: Cloud) -> None:
    cloud.add_node(has=Amounts(100, 1, 10), overcommit=replace(EXACT, cpus=2.5))
    assert cloud.node().limit == Amounts(100, 2, 10)
    assert make_node().limit == Amounts()
    cloud.add_machine(mem=1, cpus=2)
    with pytest.raises(NothingFits, match="processors"):
        cloud.add_machine(mem=1)
