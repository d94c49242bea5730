"""The faults that are planted, each with seeds by which the simulation has found it."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.simulation.paces import BRISK
from tests.simulation.planted import Fault, constant
from tests.simulation.runs import Plan

from garbi.hyper.store import leases
from garbi.iaas.fences.protocol import Proof, Scope

STORM = Plan(hours=3.0, chaos_gap_s=200.0)
LEASES = Plan(hours=3.0, chaos_gap_s=700.0, ways_in=False, kinds=("power-cut", "cut-both", "cut-one-way", "freeze"))
ONE_WAY = Plan(hours=3.0, chaos_gap_s=800.0, ways_in=False, kinds=("cut-one-way",))
RESTARTS = Plan(hours=3.0, chaos_gap_s=60.0, kinds=("agent-killed", "controller-killed"))
REBOOTS = Plan(hours=3.0, chaos_gap_s=250.0, kinds=("power-cut",))
PORTS = Plan(hours=0.4, user_pause_s=10.0, chaos_gap_s=0.0)


def _without_index(real: Callable[[], bytes]) -> Callable[[], bytes]:
    """A database whose ports may have several owners."""

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "fresh.db"
            path.write_bytes(real())
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA writable_schema = ON")
            columns = "node, protocol, address, node_port"
            loose = f"UPDATE sqlite_master SET sql = replace(sql, '({columns})', '(machine_id, {columns})') WHERE name = 'ports'"
            connection.execute(loose)
            connection.commit()
            connection.close()
            return path.read_bytes()

    return make


def _proof_at_once(_real: Any) -> Any:
    return lambda _self, _node, _cancelled: Proof("timer", Scope.RECREATABLE, "it has been silent for long")


def _from_arrival(real: Any) -> Any:
    def renew(known: Any, renewal: Any, boot_id: str, *rest: Any) -> Any:
        now = rest[0]
        late = renewal if renewal.seen is None else replace(renewal, seen=now, seen_boot=boot_id)
        return real(known, late, boot_id, *rest)

    return renew


def _any_boot(real: Any) -> Any:
    return lambda lease, boot_id, *rest: real(replace(lease, boot_id=boot_id), boot_id, *rest)


def _no_grace(real: Any) -> Any:
    def begin(self: Any, *given: Any) -> None:
        real(self, *given)
        self._began = float("-inf")

    return begin


def _hasty(real: Any) -> Any:
    return lambda self, parts, *rest: real(self, replace(parts, grace_s=0.0), *rest)


def _wall_clock(_real: Any) -> Any:
    return lambda self: self.kernel.now - self.booted_at + self.wall_offset_s


def _order_as_if(*fields: str) -> Callable[[Any], Any]:
    """An order is taken for one of who is heard now, in what those fields say."""

    def change(real: Any) -> Any:
        def check(self: Any, connection: Any, assignment: Any, machine: Any = None) -> None:
            row = leases.find(connection, assignment.controller)
            known = {"term": row.term, "holder": row.holder, "lease": row.number} if row is not None else {}
            return real(
                self, connection, replace(assignment, **{name: known[name] for name in fields if known}), machine
            )

        return check

    return change


def _renewal_as_if(*fields: str) -> Callable[[Any], Any]:
    """The same of a renewal."""

    def change(real: Any) -> Any:
        def refuse(known: Any, renewal: Any) -> None:
            if known is not None:
                renewal = replace(renewal, **{name: getattr(known, name) for name in fields})
            real(known, renewal)

        return refuse

    return change


def _any_epoch(real: Any) -> Any:
    return lambda self, connection, assignment, machine=None: real(self, connection, assignment)


def _forgets(real: Any) -> Any:
    """What `Leases._take_up` did once: a row that is newer than the file made the lease a new one."""

    def take_up(self: Any) -> None:
        real(self)
        for controller, lease in self._leases.items():
            written = self._files.read(controller)
            if written is not None and written.term != lease.term:
                self._leases[controller] = replace(lease, boot_id="")

    return take_up


FAULTS = (
    Fault("two-owners-of-a-port", "nobody refuses a second owner of a port: the index is dropped, the checks say yes", (
        ("tests.simulation.databases.fresh_controller", _without_index),
        ("garbi.iaas.store.candidates.holders", constant({})),

    ), plan=PORTS),
    Fault("moved-on-a-timer", "silence counts as proof", (("garbi.iaas.fences.protocol.Fences.prove", _proof_at_once),)),
    Fault("late-orders", "agents do not compare the numbers of orders", (
        ("garbi.hyper.agent.machines._check_latest", constant(None)),
    ), seeds=(1,), plan=Plan(script="order-that-was-followed-by-a-later-one")),
    Fault("reserved-nothing", "nothing is reserved for a machine", (("garbi.iaas.store.nodes.reserve", constant(True)),)),
    Fault("nothing-given-back", "the undo of a reservation is skipped", (("garbi.iaas.store.nodes.release", constant(None)),)),
    Fault("key-ignored", "an Idempotency-Key is looked up in vain", (
        ("garbi.iaas.store.idempotency.machine_of", constant(None)),
        ("garbi.iaas.store.idempotency.remember", constant(None)),
    )),
    Fault("lease-from-arrival", "a lease counts from when the renewal came", (
        ("garbi.hyper.leases.leases.renew", _from_arrival),
    ), seeds=(2, 1, 3), plan=ONE_WAY),
    Fault("any-boot", "a lease of an earlier boot counts", (
        ("garbi.hyper.leases.leases.judge", _any_boot),
    ), plan=REBOOTS),
    Fault("no-grace", "a controller that has just begun takes the first missed check for long silence", (
        ("garbi.iaas.loops.watching.NodeWatch.__init__", _no_grace),
        ("garbi.iaas.loops.failover.Failover.__init__", _hasty),
    ), plan=RESTARTS),
    Fault("held-no-more", "machines that may not run are started", (
        ("garbi.hyper.leases.leases.Leases.hold", constant(None)),
    ), plan=LEASES),
    Fault("watchdog-sleeps", "the watchdog beats, and does nothing", (
        ("garbi.hyper.watchdog.watchdog.Watchdog._look_at", constant(None)),
        ("garbi.hyper.leases.leases.Leases.hold", constant(None)),
    ), plan=LEASES),
    Fault("copies-stay", "copies on a node that is back are left there", (
        ("garbi.iaas.loops.returning.Returning.retire", constant([])),
    ), plan=REBOOTS),
    Fault("mass-failure", "fences are run however many nodes seem dead", (
        ("garbi.iaas.loops.failover.too_many_dead", constant(None)),
    ), plan=Plan(hours=3.0, chaos_gap_s=600.0, kinds=("many-away",))),
    Fault("forgotten-lease", "an agent that dies while another controller takes over forgets the lease", (
        ("garbi.hyper.leases.leases.Leases._take_up", _forgets),
    ), plan=replace(STORM, kinds=("agent-killed-at-a-step", "controller-killed", "agent-killed"), chaos_gap_s=60.0)),
    Fault("removed-in-name", "a removal leaves the machine at its daemon", (
        ("garbi.hyper.drivers.fake.driver.FakeDriver.remove", constant(None)),
    )),
    Fault("orders-of-any-term", "agents do not compare the terms of orders", (
        ("garbi.hyper.leases.leases.Leases.check", _order_as_if("term", "holder")),
    ), seeds=(1,), plan=Plan(script="removal-of-a-former-controller")),
    Fault("orders-under-any-lease", "agents do not compare the numbers of leases in orders", (
        ("garbi.hyper.leases.leases.Leases.check", _order_as_if("lease")),
    ), seeds=(1,), plan=Plan(script="order-under-an-earlier-lease")),
    Fault("orders-for-any-assignment", "agents do not compare the epochs of machines", (
        ("garbi.hyper.leases.leases.Leases.check", _any_epoch),
    ), seeds=(1,), plan=Plan(script="removal-of-an-earlier-assignment")),
    Fault("moved-while-being-told", "a machine is moved while the order to make it may still be on its way", (
        ("garbi.iaas.workflows.drain._is_being_told", constant(False)),
    ), seeds=(1,), plan=Plan(script="order-that-comes-after-a-move")),
    Fault("renewals-of-any-term", "agents let a former controller renew a lease", (
        ("garbi.hyper.leases.leases.refuse_stale", _renewal_as_if("term", "holder")),
    ), seeds=(1,), plan=Plan(script="renewal-of-a-former-controller", ways_in=False)),
    Fault("renewals-of-any-number", "agents let an earlier lease follow a later one", (
        ("garbi.hyper.leases.leases.refuse_stale", _renewal_as_if("number")),
    ), seeds=(1,), plan=Plan(script="renewal-of-an-earlier-lease")),
    Fault("any-holder", "agents do not tell controllers of one term apart", (
        ("garbi.hyper.leases.leases.refuse_stale", _renewal_as_if("holder")),
        ("garbi.hyper.leases.leases.Leases.check", _order_as_if("holder")),
    ), seeds=(1,), plan=Plan(script="two-copies-of-a-database", ways_in=False)),
    Fault("one-lease-for-ever", "a node that was dead goes on under the lease that it had", (
        ("garbi.iaas.store.nodes.raise_lease", constant(True)),
    ), seeds=(1,), plan=Plan(script="node-that-comes-back", ways_in=False)),
    Fault("wall-clock", "leases are measured by the clock that people set", (
        ("tests.simulation.hosts.SimClock.since_boot", _wall_clock),
    ), plan=replace(STORM, kinds=("clock-set",))),
)  # fmt: skip
PACE = BRISK
