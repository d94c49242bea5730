"""The faults that are planted in what is decided for clouds of two nodes, each with the script that finds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.simulation.planted import Fault, constant
from tests.simulation.runs import Plan

from garbi.hyper.leases import verdict


def _pair(script: str) -> Plan:
    return Plan(nodes=2, ways_in=False, script=script)


def _armed_alone(real: Any) -> Any:
    return lambda nodes, guarded, heard, fellow=None: guarded if nodes == 2 else real(nodes, guarded, heard, fellow)


def _never_disarmed(real: Any) -> Any:
    return lambda self, account, peers: account.ledger.armed or real(self, account, peers)


def _silence_holds_on(real: Any) -> Any:
    return lambda lease, now, evidence: not verdict._valid(evidence.words.values(), now) or real(lease, now, evidence)


def _as_is_set_now(real: Any) -> Any:
    """A controller that takes over reckons with its own setting."""

    def renew(self: Any, node: Any, account: Any, *rest: Any) -> Any:
        if account.number == 0:
            told = account.ledger
            account.ledger = replace(told, shortest_s=self._lessor.ttl_s, longest_s=self._lessor.ttl_s)
        return real(self, node, account, *rest)

    return renew


PAIR_FAULTS = (
    Fault("armed-alone", "of two nodes one is armed, whatever becomes of the other", (
        ("garbi.iaas.fences.lease.may_arm", _armed_alone),
    ), seeds=(1,), plan=_pair("controller-away-with-one-node-off")),
    Fault("never-disarmed", "a lease that was armed stays so when the other one of two nodes is off", (
        ("garbi.iaas.fences.lease.LeaseBook._may_arm", _never_disarmed),
    ), seeds=(1,), plan=_pair("controller-away-with-one-node-off")),
    Fault("runs-on-alone", "a node that hears nobody takes the controller for dead", (
        ("garbi.hyper.leases.verdict._most_miss_it", _silence_holds_on),
    ), seeds=(1,), plan=_pair("node-that-hears-nobody")),
    Fault("runs-on-though-it-is-heard", "a node goes on though its fellow hears the controller", (
        ("garbi.hyper.leases.verdict._most_miss_it", constant(True)),
    ), seeds=(1,), plan=_pair("node-whose-fellow-hears-the-controller")),
    Fault("nobody-is-asked", "a node ends what it has when it misses the controller, whatever its fellow says", (
        ("garbi.hyper.leases.verdict._most_miss_it", constant(False)),
        ("garbi.hyper.leases.verdict._missed_at", constant(None)),
    ), seeds=(1,), plan=_pair("controller-away-from-two-nodes")),
    Fault("dead-and-asked-anew", "what a node agreed to is struck out before it is known to live", (
        ("garbi.hyper_api.client.HyperClient.health", constant({})),
    ), seeds=(1, 2, 3), plan=_pair("node-whose-death-its-fellow-tells-first")),
    Fault("leases-as-set-now", "a controller that takes over reckons with the lease that is set now", (
        ("garbi.iaas.fences.lease.LeaseBook._renew", _as_is_set_now),
    ), seeds=(1,), plan=_pair("successor-with-shorter-leases")),
    Fault("asked-for-ever", "a node that was switched off long ago is still one of those that the others ask", (
        ("garbi.iaas.loops.watchers.long_gone", constant(frozenset())),
    ), seeds=(1,), plan=Plan(nodes=3, ways_in=False, script="node-that-dies-long-after-another")),
)  # fmt: skip
