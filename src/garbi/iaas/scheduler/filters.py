"""What keeps a machine from a node. Each filter has a name, a check, a few words for a sum over nodes, and a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from garbi.hyper_api.vocabulary import PublishedPort
from garbi.iaas.model.node import DriverState, Node, NodeState
from garbi.iaas.scheduler.asking import Ask, Candidate

LONGEST_WORDS = 200
"""Characters that a node's own words may take in an explanation."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One reason for refusing a node.

    `check` tells whether the node passes. `brief` and `explain` are asked only about one that does not: the first gives words
    that stand before `on 2 nodes`, the second a whole reason.
    """

    name: str
    check: Callable[[Ask, Candidate], bool]
    brief: Callable[[Ask, Candidate], str]
    explain: Callable[[Ask, Candidate], str]


def first_refusal(ask: Ask, candidate: Candidate) -> Filter | None:
    """The first filter that the node does not pass, None when it passes all."""
    return next((each for each in FILTERS if not each.check(ask, candidate)), None)


def taken(ask: Ask, candidate: Candidate) -> tuple[PublishedPort, str] | None:
    """The first port asked for that somebody has there, and who."""
    for port in ask.ports:
        holder = candidate.taken_ports.get((port.protocol, port.node_port))
        if holder is not None:
            return port, holder
    return None


def _named(ask: Ask, candidate: Candidate) -> bool:
    return ask.node is None or ask.node == candidate.node.name


def _ready(ask: Ask, candidate: Candidate) -> bool:
    node = candidate.node
    return node.state is NodeState.READY and not node.draining and not node.witness


def _state_word(ask: Ask, candidate: Candidate) -> str:
    node = candidate.node
    if node.witness:
        return "witness"
    return NodeState.DRAINING if node.state is NodeState.READY else node.state


def _state_reason(ask: Ask, candidate: Candidate) -> str:
    if candidate.node.witness:
        return "the node is a witness: it carries no machines"
    reason = candidate.node.reason
    return f"the node is {_state_word(ask, candidate)}" + (f": {_clipped(reason)}" if reason else "")


def _driver(ask: Ask, node: Node) -> DriverState | None:
    return next((each for each in node.drivers if each.name == ask.type), None)


def _has_type(ask: Ask, candidate: Candidate) -> bool:
    driver = _driver(ask, candidate.node)
    return driver is not None and driver.available


def _type_reason(ask: Ask, candidate: Candidate) -> str:
    driver = _driver(ask, candidate.node)
    if driver is None:
        return f"type {ask.type} is missing: there is no such driver on the node"
    return f"type {ask.type} is missing: {_clipped(driver.reason) or 'its driver is not available'}"


def _right_architecture(ask: Ask, candidate: Candidate) -> bool:
    return ask.architecture is None or ask.architecture == candidate.node.architecture


def _missing_labels(ask: Ask, candidate: Candidate) -> list[str]:
    labels = candidate.node.labels
    return [f"{key}={value}" for key, value in sorted(ask.require.items()) if labels.get(key) != value]


def _is_apart(ask: Ask, candidate: Candidate) -> bool:
    return ask.apart is None or ask.apart[1] not in candidate.apart_values


def _apart_reason(ask: Ask, candidate: Candidate) -> str:
    return f"another machine with {'='.join(ask.apart or ())} is there"


def _port_word(ask: Ask, candidate: Candidate) -> str:
    found = taken(ask, candidate)
    return f"port {_port(found[0])} taken" if found else ""


def _port_reason(ask: Ask, candidate: Candidate) -> str:
    found = taken(ask, candidate)
    return f"port {_port(found[0])} is taken by {found[1]}" if found else ""


def _port(port: PublishedPort) -> str:
    return f"{port.node_port}/{port.protocol}"


def _lack(what: str, unit: str, key: str, ask: Ask, candidate: Candidate) -> str:
    asked, own, free, limit = (
        int(getattr(each, key)) for each in (ask.amounts, candidate.node.free, candidate.free, candidate.node.limit)
    )
    words = f"{what}: {asked}{unit} asked for, {max(0, free)} of {limit}{unit} free"
    if candidate.shared is None or free == own:
        return words
    beside = candidate.shared.beside
    return f"{words}: it shares its host with node{'s' if len(beside) > 1 else ''} {_clipped(', '.join(beside))}"


def _memory_reason(ask: Ask, candidate: Candidate) -> str:
    return _lack("memory", " MiB", "mem", ask, candidate)


def _cpu_reason(ask: Ask, candidate: Candidate) -> str:
    return _lack("processors", "", "cpus", ask, candidate)


def _disk_reason(ask: Ask, candidate: Candidate) -> str:
    return _lack("disk", " MiB", "disk", ask, candidate)


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST_WORDS else text[: LONGEST_WORDS - 1] + "…"


FILTERS: tuple[Filter, ...] = (
    Filter("node", _named, lambda a, c: "another node asked for", lambda a, c: f"node {a.node} was asked for"),
    Filter("state", _ready, lambda a, c: f"state {_state_word(a, c)}", _state_reason),
    Filter(
        "storage",
        lambda a, c: not c.node.unwritable,
        lambda a, c: "a disk that has failed",
        lambda a, c: f"the node cannot write on its disk: {_clipped(c.node.unwritable)}",
    ),
    Filter(
        "leaving",
        lambda a, c: c.node.leaving_at is None,
        lambda a, c: "a host that goes down",
        lambda a, c: "the host of the node goes down",
    ),
    Filter("type", _has_type, lambda a, c: f"type {a.type} missing", _type_reason),
    Filter(
        "architecture",
        _right_architecture,
        lambda a, c: "architecture",
        lambda a, c: f"architecture {c.node.architecture or 'unknown'}, {a.architecture} is needed",
    ),
    Filter(
        "labels",
        lambda a, c: not _missing_labels(a, c),
        lambda a, c: f"label {','.join(_missing_labels(a, c))} missing",
        lambda a, c: f"the node has no label {', '.join(_missing_labels(a, c))}",
    ),
    Filter("apart", _is_apart, lambda a, c: f"a machine with {'='.join(a.apart or ())}", _apart_reason),
    Filter("port", lambda a, c: taken(a, c) is None, _port_word, _port_reason),
    Filter("memory", lambda a, c: a.amounts.mem <= c.free.mem, lambda a, c: "memory", _memory_reason),
    Filter("cpu", lambda a, c: a.amounts.cpus <= c.free.cpus, lambda a, c: "processors", _cpu_reason),
    Filter("disk", lambda a, c: a.amounts.disk <= c.free.disk, lambda a, c: "disk", _disk_reason),
)
"""All filters, in the order in which they are asked: what never changes first, so that the reason given is the deepest."""
