"""What becomes of machines when their lease ends, goes on or begins anew: the agent and the watchdog, with fake machines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.leases.conftest import LeasedHost, SetBoot
from tests.leases.words import BOOT, CONTROLLER, HOLDER, PEERS, TTL_S, eventually, renewal

from garbi.base.checks import CheckStatus
from garbi.base.errors import AlreadyInState, DataDirLocked, StaleOrder
from garbi.hyper.host.check import DoctorSettings
from garbi.hyper.leases.doctor import check_watchdog
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.leases.heartbeat import Heartbeat
from garbi.hyper.main import DATABASE
from garbi.hyper.model.machine import MachineSpec, State, Wish
from garbi.hyper.store import leases as table
from garbi.hyper.store.database import Database
from garbi.hyper_api.assignment import Assignment


def test_only_what_may_run_elsewhere_ends_with_its_lease(host: LeasedHost) -> None:
    host.start_watchdog()
    host.arm()
    for name, policy, controller in (
        ("moves", "recreate", CONTROLLER),
        ("stays", "stay", CONTROLLER),
        ("foreign", "recreate", "d1" * 16),
    ):
        host.add(name, policy=policy, controller=controller)
    host.living.machines.add(MachineSpec(image="any", type="fake", id="local"))
    host.await_state("local", State.RUNNING)
    host.clock.ahead_s += TTL_S + 1
    assert host.watchdog is not None
    host.watchdog.tick()
    host.await_state("moves", State.STOPPED)
    assert host.state("moves")[1].startswith("held: its lease ")
    assert [name for name in ("moves", "stays", "foreign", "local") if host.runs(name)] == ["stays", "foreign", "local"]


def test_an_agent_alone_holds_what_may_run_elsewhere_once_its_lease_has_ended(host: LeasedHost) -> None:
    heartbeat = Heartbeat(host.settings.runtime)
    heartbeat.beat(BOOT, host.clock.since_boot())
    host.arm()
    heartbeat.release()
    host.add("web")
    host.clock.ahead_s += TTL_S + 1
    host.await_state("web", State.STOPPED)
    assert not host.runs("web")
    eventually(
        "the end is written down",
        lambda: LeaseFiles(host.settings.data_dir, host.settings.runtime).fenced(CONTROLLER) == 1,
    )


def test_nothing_stops_while_most_nodes_miss_the_controller_and_nothing_when_it_is_back(host: LeasedHost) -> None:
    watchdog = host.start_watchdog()
    status = host.arm()
    host.add("web")
    for _ in range(100):  # a day and more
        host.clock.ahead_s += 900
        host.others.ages = {PEERS[0]: 900.0}
        watchdog.tick()
        host.living.leases.look()
        assert host.runs("web")
    host.others.ages = dict.fromkeys(PEERS, 0.1)  # the others were heard by it first
    host.clock.ahead_s += 3
    watchdog.tick()
    host.living.leases.look()
    assert host.living.leases.all()[0].active
    back = host.renew(status.moment)
    assert host.renew(back.moment).expires_in_s == pytest.approx(TTL_S, abs=5)
    watchdog.tick()
    assert host.runs("web")
    assert host.state("web") == (State.RUNNING, "")


def test_a_lease_that_has_ended_begins_anew_by_its_next_number_and_its_machines_by_an_order(host: LeasedHost) -> None:
    watchdog = host.start_watchdog()
    status = host.arm()
    host.add("web")
    host.clock.ahead_s += TTL_S + 1
    watchdog.tick()
    host.await_state("web", State.STOPPED)
    again = host.renew(status.moment)
    assert (again.active, again.lease.fenced) == (False, 1)
    with pytest.raises(StaleOrder):
        host.living.machines.wish("web", Wish.RUNNING, Assignment(CONTROLLER, HOLDER, 1, 1, 1))
    assert host.renew(None, number=2).active
    assert host.state("web")[0] is State.STOPPED
    host.living.machines.wish("web", Wish.RUNNING, Assignment(CONTROLLER, HOLDER, 1, 2, 1))
    host.await_state("web", State.RUNNING)
    watchdog.tick()
    watchdog.tick()
    assert host.runs("web")


def test_a_machine_that_was_given_up_waits_for_an_order_whatever_else_it_is_told(host: LeasedHost) -> None:
    host.start_watchdog()
    host.arm()
    host.add("web")
    host.renew(None, number=2)
    host.await_state("web", State.STOPPED)
    assert host.state("web")[1].startswith("held: it was given up with lease 1")
    host.living.machines.wish("web", Wish.RUNNING)  # a user of the host, who is not who gave it up
    eventually("it is held again", lambda: host.living.machines.get("web").settled)
    assert not host.runs("web")


def test_a_held_machine_that_is_stopped_stays_so_when_it_is_free(host: LeasedHost) -> None:
    host.start_watchdog()
    host.arm()
    host.add("web")
    host.renew(None, number=2)
    host.await_state("web", State.STOPPED)
    host.living.machines.wish("web", Wish.STOPPED, Assignment(CONTROLLER, HOLDER, 1, 2, 1))
    eventually("it is stopped for good", lambda: host.state("web") == (State.STOPPED, ""))
    assert host.living.machines.get("web").wish is Wish.STOPPED
    assert not host.runs("web")


def test_an_order_that_comes_after_a_later_one_has_no_effect(host: LeasedHost) -> None:
    host.renew(None, arm=False)
    host.add("web")
    host.living.machines.wish("web", Wish.STOPPED, Assignment(CONTROLLER, HOLDER, 1, 1, 1, 3))
    eventually("it is stopped", lambda: host.state("web") == (State.STOPPED, ""))
    with pytest.raises(StaleOrder, match="order 2 for machine web comes after order 3"):
        host.living.machines.wish("web", Wish.RUNNING, Assignment(CONTROLLER, HOLDER, 1, 1, 1, 2))
    assert host.living.machines.get("web").wish is Wish.STOPPED


def test_an_order_that_changes_nothing_else_frees_a_machine_before_it_is_held(host: LeasedHost) -> None:
    host.renew(None, arm=False)
    host.add("web")
    with pytest.raises(AlreadyInState):
        host.living.machines.wish("web", Wish.RUNNING, Assignment(CONTROLLER, HOLDER, 1, 1, 1))
    assert host.living.machines.get("web").lease == 1


def test_a_held_machine_stays_held_over_a_restart_of_its_agent(host: LeasedHost) -> None:
    watchdog = host.start_watchdog()
    host.arm()
    host.add("web")
    host.stop_agent()
    host.clock.ahead_s += TTL_S + 1
    watchdog.tick()
    assert not host.runs("web")
    host.start_agent()
    host.await_state("web", State.STOPPED)
    assert not host.runs("web")


def test_an_agent_that_dies_while_a_later_controller_takes_over_lets_its_machines_run(host: LeasedHost) -> None:
    host.start_watchdog()
    host.arm()
    host.add("web")
    database = Database(host.settings.data_dir / DATABASE)
    host.stop_agent()
    with database.write() as transaction:
        table.save(transaction, table.LeaseRow(CONTROLLER, "cc", 2, 1, 0), host.clock.now())
    database.close()
    host.start_agent()
    status = host.living.leases.all()[0]
    assert (status.active, status.lease.term, status.lease.holder) == (True, 2, "cc")
    assert host.runs("web")


def test_after_a_boot_nothing_leased_runs_until_its_controller_was_heard(host: LeasedHost, boot: SetBoot) -> None:
    host.start_watchdog()
    status = host.arm()
    host.add("web")
    host.add("stays", policy="stay")
    host.stop_agent()
    for name in ("web", "stays"):
        host.world.kill(name, "")
    boot("boot-2")
    host.start_agent()
    host.await_state("stays", State.RUNNING)
    host.await_state("web", State.STOPPED)
    assert host.state("web")[1].startswith("held: its lease was not renewed since the host booted")
    assert not host.renew(status.moment).active  # it has seen the boot before
    assert host.renew(None).active
    host.await_state("web", State.RUNNING)


def test_a_watchdog_that_starts_late_asks_before_it_judges(host: LeasedHost) -> None:
    host.start_watchdog()
    host.arm()
    host.add("web")
    host.stop_watchdog()
    host.stop_agent()
    host.clock.ahead_s += 86_400
    host.others.ages = dict.fromkeys(PEERS, 86_400.0)
    asked = host.others.asked
    watchdog = host.start_watchdog()
    assert host.others.asked == asked + 1
    watchdog.tick()
    assert host.runs("web")
    host.others.ages = {}
    host.clock.ahead_s += 2 * TTL_S
    watchdog.tick()
    assert not host.runs("web")


def test_a_lease_that_is_not_armed_never_ends(host: LeasedHost) -> None:
    watchdog = host.start_watchdog()
    host.arm()
    host.add("web")
    assert not host.renew(host.clock.since_boot(), arm=False).lease.armed
    host.clock.ahead_s += 86_400
    watchdog.tick()
    assert host.runs("web")
    assert host.living.leases.all()[0].active


def test_a_controller_that_knows_no_leases_is_not_hindered(host: LeasedHost) -> None:
    host.add("web", controller="d1" * 16)
    host.living.leases.renew(replace(renewal(None), controller="d1" * 16))
    assert host.state("web")[0] is State.RUNNING
    host.living.machines.wish("web", Wish.STOPPED)
    host.await_state("web", State.STOPPED)
    host.living.machines.wish("web", Wish.RUNNING)
    host.await_state("web", State.RUNNING)


def test_a_second_watchdog_is_told_who_guards_here(host: LeasedHost) -> None:
    host.start_watchdog()
    with pytest.raises(DataDirLocked, match="another watchdog"):
        LeasedHost(host.settings, host.clock, host.others).start_watchdog()


def test_a_watchdog_that_hangs_is_no_guard(host: LeasedHost) -> None:
    host.start_watchdog()
    assert host.living.leases.guarded()
    host.clock.ahead_s += 20
    assert not host.living.leases.guarded()
    host.stop_watchdog()
    assert not host.living.leases.guarded()


def test_the_doctor_misses_a_watchdog_where_a_controller_could_use_one(
    host: LeasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("garbi.hyper.leases.doctor.boot_id", lambda: BOOT)
    settings = DoctorSettings(data_dir=host.settings.data_dir)
    assert check_watchdog(settings) is None
    host.renew(None, peers=())
    assert check_watchdog(settings) is None
    host.renew(None, peers=PEERS[:1])
    missing = check_watchdog(settings)
    assert missing is not None
    assert (missing.status, "no watchdog works" in missing.found) == (CheckStatus.WARN, True)
    host.start_watchdog()
    found = check_watchdog(settings)
    assert found is not None
    assert found.status is CheckStatus.OK
