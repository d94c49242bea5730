"""What a person reads: each filter's reason, the sum over the nodes, why the chosen one won."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.scheduler.fleets import LONG_AGO, a_node, an_ask, some

from garbi.base.errors import NothingFits, PortTaken
from garbi.hyper_api.vocabulary import Protocol, PublishedPort
from garbi.iaas.model.machine import Strategy
from garbi.iaas.model.node import Amounts, DriverState, Load, NodeState
from garbi.iaas.scheduler import FILTERS, RANKINGS, Ask, Candidate, place

PAGE = Path(__file__).parents[2] / "docs/scheduler.md"
WEB = PublishedPort(8080, 80)
REFUSALS = {
    "node": (Candidate(a_node()), {"node": "b"}, "node b was asked for"),
    "state": (
        Candidate(a_node(state=NodeState.UNREACHABLE, reason="no answer since 10:00")),
        {},
        "the node is unreachable: no answer since 10:00",
    ),
    "storage": (
        Candidate(a_node(unwritable="read-only file system")),
        {},
        "the node cannot write on its disk: read-only file system",
    ),
    "leaving": (Candidate(a_node(leaving_at=LONG_AGO)), {}, "the host of the node goes down"),
    "type": (
        Candidate(a_node(drivers=(DriverState("libvirt", False, "no socket"),))),
        {"type": "libvirt"},
        "type libvirt is missing: no socket",
    ),
    "architecture": (Candidate(a_node()), {"architecture": "aarch64"}, "architecture x86_64, aarch64 is needed"),
    "labels": (Candidate(a_node()), {"require": {"disk": "ssd"}}, "the node has no label disk=ssd"),
    "apart": (
        Candidate(a_node(), apart_values=frozenset({"web"})),
        {"apart": ("app", "web")},
        "another machine with app=web is there",
    ),
    "port": (
        Candidate(a_node(), taken_ports={(Protocol.TCP, 8080): "machine shop"}),
        {"ports": (WEB,)},
        "port 8080/tcp is taken by machine shop",
    ),
    "memory": (
        Candidate(a_node(reserved=Amounts(4000, 0, 0))),
        {},
        "memory: 256 MiB asked for, 96 of 4096 MiB free",
    ),
    "cpu": (Candidate(a_node(reserved=Amounts(0, 16, 0))), {}, "processors: 1 asked for, 0 of 16 free"),
    "disk": (
        Candidate(a_node(limit=Amounts(4096, 16, 10))),
        {"amounts": Amounts(256, 1, 11)},
        "disk: 11 MiB asked for, 10 of 10 MiB free",
    ),
}


def test_every_filter_has_an_example_here() -> None:
    assert list(REFUSALS) == [filter.name for filter in FILTERS]


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_what_is_missing(name: str) -> None:
    candidate, changes, reason = REFUSALS[name]
    (verdict,) = place(an_ask(**changes), [candidate]).verdicts
    assert (verdict.fits, verdict.filter, verdict.reason, verdict.score) == (False, name, reason, None)


def test_the_sum_names_the_reason_of_most_nodes_first() -> None:
    small = Amounts(100, 16, 0)
    fleet = some([a_node("a", limit=small), a_node("b", limit=small), a_node("c", drivers=())])
    answer = place(an_ask(type="libvirt"), fleet)
    assert answer.summary() == "memory on 2 nodes, type libvirt missing on 1"
    error = answer.to_error()
    assert isinstance(error, NothingFits)
    assert error.detail == "no node can take it: memory on 2 nodes, type libvirt missing on 1"
    assert (error.status, error.code) == (409, "nothing-fits")


def test_without_nodes_the_sum_says_so() -> None:
    assert place(an_ask(), []).to_error().detail == "no node can take it: there are no nodes"


def test_a_draining_node_is_refused_as_draining() -> None:
    (verdict,) = place(an_ask(), some([a_node(draining=True)])).verdicts
    assert verdict.reason == "the node is draining"


def test_the_error_speaks_of_the_node_that_was_named() -> None:
    fleet = some([a_node("a", reserved=Amounts(4096, 0, 0)), a_node("b")])
    error = place(an_ask(node="a"), fleet).to_error()
    assert error.detail == "node a cannot take it: memory: 256 MiB asked for, 0 of 4096 MiB free"
    assert [each["filter"] for each in error.extra["verdicts"]] == ["memory", "node"]


def test_a_node_that_does_not_exist_is_said_to_be_so() -> None:
    error = place(an_ask(node="z"), some([a_node()])).to_error()
    assert error.detail == "there is no node called z; there are: a"
    assert place(an_ask(node="z"), []).to_error().detail == "there is no node called z; there is none yet"
    many = some([a_node(f"n{number:02}") for number in range(12)])
    assert place(an_ask(node="z"), many).to_error().detail.endswith("n09 and 2 more")


def test_a_taken_port_is_refused_by_the_name_of_its_holder() -> None:
    candidate = Candidate(a_node(), taken_ports={(Protocol.TCP, 8080): "machine shop"})
    error = place(an_ask(node="a", ports=(PublishedPort(8080, 80, Protocol.UDP), WEB)), [candidate]).to_error()
    assert isinstance(error, PortTaken)
    assert error.detail == "port 8080/tcp of node a is taken by machine shop"
    assert (error.extra["holder"], error.extra["node"]) == ("machine shop", "a")


@pytest.mark.parametrize(
    ("strategy", "chosen", "reason"),
    [
        (Strategy.SPREAD, "b", "chosen by spread: fewest machines running; 1 machine running"),
        (Strategy.PACK, "a", "chosen by pack: the fullest that fits; 50% of it promised"),
        (Strategy.LOAD, "c", "chosen by load: least in use; 10% in use"),
    ],
)
def test_the_chosen_one_says_why_it_won(strategy: Strategy, chosen: str, reason: str) -> None:
    fleet = [
        Candidate(a_node("a", reserved=Amounts(2048, 1, 0), load=Load(8.0, 100)), running=2),
        Candidate(a_node("b", reserved=Amounts(1024, 1, 0), load=Load(0.0, 4000)), running=1),
        Candidate(a_node("c", load=Load(1.6, 100)), running=2),
    ]
    answer = place(an_ask(strategy=strategy), fleet)
    assert answer.chosen == chosen
    assert {verdict.node: verdict.reason for verdict in answer.verdicts}[chosen] == reason
    assert answer.summary() == f"{chosen}: {reason}"


def test_equal_nodes_go_by_name_and_it_is_said() -> None:
    answer = place(an_ask(), some([a_node("c"), a_node("b"), a_node("a", drivers=())]))
    assert answer.summary() == (
        "b: chosen by spread: fewest machines running; 0 machines running; first by name of 2 equal nodes"
    )


def test_the_only_one_that_fits_says_so() -> None:
    assert place(an_ask(), some([a_node()])).summary() == "a: chosen: the only one that fits; 0 machines running"


def test_measured_use_of_equal_tenths_goes_to_the_node_with_fewer_machines() -> None:
    fleet = [
        Candidate(a_node("a", load=Load(4.0)), running=5),
        Candidate(a_node("b", load=Load(4.2)), running=1),
    ]
    assert place(an_ask(strategy=Strategy.LOAD), fleet).chosen == "b"


@pytest.mark.parametrize("load", [Load(float("nan"), 0), Load(float("inf"), 0), Load(-1.0, -5)])
def test_a_node_that_reports_nonsense_is_ranked_like_an_idle_one(load: Load) -> None:
    answer = place(an_ask(strategy=Strategy.LOAD), some([a_node("b"), a_node("a", load=load)]))
    assert answer.chosen == "a"


def test_a_node_cannot_flood_an_explanation_with_its_words() -> None:
    (verdict,) = place(an_ask(), some([a_node(state=NodeState.FAILED, reason="x" * 10_000)])).verdicts
    assert len(verdict.reason) < 300


def test_a_verdict_becomes_a_document_without_the_words_for_the_sum() -> None:
    ask: Ask = an_ask()
    documents: list[dict[str, Any]] = [verdict.document() for verdict in place(ask, some([a_node()])).verdicts]
    assert [list(each) for each in documents] == [["node", "fits", "filter", "reason", "score"]]


def test_the_page_about_the_scheduler_has_a_row_for_each_filter_and_strategy() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [*(filter.name for filter in FILTERS), *RANKINGS]


def test_a_witness_takes_nothing_and_says_why() -> None:
    (verdict,) = place(an_ask(), [Candidate(a_node(witness=True))]).verdicts
    assert (verdict.fits, verdict.filter) == (False, "state")
    assert verdict.reason == "the node is a witness: it carries no machines"
