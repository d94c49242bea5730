"""Several agents on one host promise it once together, whatever each of them says that it has: the database sees to that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.iaas_store.cloud import EXACT, Cloud, note_facts

from garbi.base.errors import NothingFits
from garbi.iaas.model.machine import MachineSpec
from garbi.iaas.model.node import Amounts
from garbi.iaas.store import nodes

HAS = Amounts(1000, 10, 500)


def on_one_host(cloud: Cloud, *names: str, has: Amounts = HAS, host_mem: int = 1000) -> None:
    """Nodes whose agents tell the same boot id."""
    for name in names:
        cloud.add_node(name, overcommit=EXACT)
        with cloud.write() as transaction:
            note_facts(transaction, name, has, boot="one", host_mem=host_mem)


@pytest.mark.parametrize(("field", "half"), [("mem", 600), ("cpus", 6), ("disk", 300)])
def test_what_is_promised_on_one_node_is_not_there_on_the_other(cloud: Cloud, field: str, half: int) -> None:
    on_one_host(cloud, "n1", "n2")
    small = {"mem": 10, "cpus": 1, "disk": 10}
    cloud.add_machine(node="n1", **{**small, field: half})
    spec = MachineSpec(image="any", type="fake", node="n2", **{**small, field: half})
    with pytest.raises(NothingFits) as refusal:
        cloud.placement.accept(spec)
    assert "it shares its host with node n1" in str(refusal.value.extra["verdicts"])
    verdict = next(each for each in cloud.placement.explain(spec).verdicts if each.node == "n2")
    assert "it shares its host with node n1" in verdict.reason
    left = getattr(HAS, field) - half
    asked = Amounts(**{**small, field: left + 1})
    with cloud.write() as transaction:
        assert not nodes.reserve(transaction, "n2", asked)  # the database itself, whatever was read before
    assert cloud.add_machine(node="n2", **{**small, field: left}).node == "n2"


def test_a_host_that_was_divided_is_promised_in_its_parts(cloud: Cloud) -> None:
    on_one_host(cloud, "n1", "n2", has=Amounts(500, 10, 500))
    assert [cloud.add_machine(node=name, mem=500).node for name in ("n1", "n2")] == ["n1", "n2"]


def test_disks_of_other_sizes_are_others(cloud: Cloud) -> None:
    on_one_host(cloud, "n1")
    on_one_host(cloud, "n2", has=Amounts(1000, 10, 501))
    assert [cloud.add_machine(node=name, disk=400).node for name in ("n1", "n2")] == ["n1", "n2"]


def test_hosts_of_their_own_have_nothing_to_do_with_it(cloud: Cloud) -> None:
    for name in ("n1", "n2"):
        cloud.add_node(name, has=HAS)
    assert [cloud.add_machine(node=name, mem=1000).node for name in ("n1", "n2")] == ["n1", "n2"]


def test_two_at_once_do_not_get_the_last_of_a_host_both(cloud: Cloud) -> None:
    on_one_host(cloud, "n1", "n2")

    def ask(number: int) -> bool:
        try:
            cloud.add_machine(node=f"n{1 + number % 2}", mem=300)
        except NothingFits:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(ask, range(8))) == 3
    assert sum(cloud.node(name).reserved.mem for name in ("n1", "n2")) == 900
