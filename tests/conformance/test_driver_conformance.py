"""Every verb of every driver: what it does, that it may be repeated, and that it leaves nothing behind."""

from __future__ import annotations

import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket

import pytest
from tests.conformance.bench import Bench, eventually, new_id
from tests.conformance.needs import needs
from tests.free_ports import free_port

from garbi.base.errors import GarbiError
from garbi.hyper.drivers.protocol import Condition, Driver
from garbi.hyper.model.machine import PublishedPort

HOSTILE_IDS = [
    "",
    "*",
    "..",
    "../../etc/passwd",
    "a/b",
    "-rf",
    "$(reboot)",
    "a\nb",
    "' or 1=1 --",
    "ñ\u2028",
    "a" * 300,
]
HOSTILE_LABELS = {
    "newline": "one\ntwo\r\nthree\ttab",
    "quotes": "'single' \"double\" `back` \\ backslash",
    "markup": "<domain type='kvm'/>]]> &amp; <!-- <?x?> -->",
    "template": "{{7*7}} ${HOME} $(id) %s {0}",
    "unicode": "València 東京 \u2028 \U0001f30a \u202e",
    "empty": "",
    'key with spaces, "quotes", <marks> & ñ': "value",
    "long": "x" * 4000,
}


def test_a_driver_says_that_it_is_available_and_the_version_of_its_daemon(driver: Driver) -> None:
    info = driver.info()
    assert info.available, info.reason
    assert info.name
    assert info.version
    assert not info.reason


def test_an_image_can_be_prepared_twice(bench: Bench, driver: Driver) -> None:
    assert bench.subject.image().type in driver.image_types
    driver.prepare(bench.subject.image())
    driver.prepare(bench.subject.image())


def test_add_makes_a_machine_that_does_not_run(bench: Bench, driver: Driver) -> None:
    machine_id = bench.add(driver)
    seen = bench.look(driver, machine_id)
    assert seen is not None
    assert seen.condition is Condition.STOPPED
    assert seen.failure == ""


def test_add_twice_is_add_once(bench: Bench, driver: Driver) -> None:
    machine_id = bench.add(driver)
    things = bench.leftovers()
    bench.add(driver, machine_id)
    assert bench.leftovers() == things
    assert bench.condition(driver, machine_id) is Condition.STOPPED


def test_add_of_a_running_machine_leaves_it_running(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    before = bench.incarnation(machine_id)
    bench.add(driver, machine_id)
    assert bench.condition(driver, machine_id) is Condition.RUNNING
    assert bench.incarnation(machine_id) == before


def test_a_machine_with_a_full_copy_of_its_image_runs_and_leaves_nothing(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver, full_copy=True)
    driver.remove(machine_id)
    assert bench.leftovers() == []


def test_start_twice_is_start_once(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    before = bench.incarnation(machine_id)
    driver.start(machine_id)
    assert bench.condition(driver, machine_id) is Condition.RUNNING
    assert bench.incarnation(machine_id) == before


def test_start_of_what_was_never_made_is_an_error_of_ours(driver: Driver) -> None:
    with pytest.raises(GarbiError):
        driver.start(new_id())


def test_stop_asks_and_the_machine_ends_without_failure(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    assert bench.end(driver, machine_id).failure == ""
    driver.stop(machine_id)
    assert bench.condition(driver, machine_id) is Condition.STOPPED


def test_kill_ends_the_machine_now_and_may_be_repeated(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    driver.kill(machine_id)
    assert bench.condition(driver, machine_id) is Condition.STOPPED
    driver.kill(machine_id)
    assert bench.condition(driver, machine_id) is Condition.STOPPED


def test_a_machine_that_was_killed_starts_again(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    before = bench.incarnation(machine_id)
    driver.kill(machine_id)
    driver.start(machine_id)
    seen = bench.look(driver, machine_id)
    assert seen is not None
    assert (seen.condition, seen.failure) == (Condition.RUNNING, "")
    assert bench.incarnation(machine_id) != before


def test_stop_kill_and_remove_of_what_was_never_made_do_nothing(bench: Bench, driver: Driver) -> None:
    for verb in (driver.stop, driver.kill, driver.remove):
        verb(new_id())
    assert bench.leftovers() == []


@pytest.mark.parametrize("stage", ["made", "running", "killed"])
def test_remove_at_any_stage_leaves_nothing_and_may_be_repeated(bench: Bench, driver: Driver, stage: str) -> None:
    machine_id = bench.add(driver)
    if stage != "made":
        driver.start(machine_id)
    if stage == "killed":
        driver.kill(machine_id)
    assert bench.leftovers() != []
    driver.remove(machine_id)
    assert bench.leftovers() == []
    assert bench.look(driver, machine_id) is None
    driver.remove(machine_id)


def test_an_id_can_be_used_again_after_remove(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    driver.remove(machine_id)
    bench.add(driver, machine_id)
    assert bench.condition(driver, machine_id) is Condition.STOPPED
    driver.start(machine_id)
    assert bench.condition(driver, machine_id) is Condition.RUNNING


def test_observe_shows_one_or_all_of_ours_and_nothing_of_what_is_not_there(bench: Bench, driver: Driver) -> None:
    assert driver.observe() == []
    made, running = bench.add(driver), bench.run(driver)
    assert {(seen.machine_id, seen.condition) for seen in driver.observe()} == {
        (made, Condition.STOPPED),
        (running, Condition.RUNNING),
    }
    assert bench.condition(driver, made) is Condition.STOPPED
    assert driver.observe(new_id()) == []


def test_the_limits_of_memory_and_processors_hold(bench: Bench, driver: Driver) -> None:
    for mem, cpus in ((160, 1), (224, 2)):
        machine_id = bench.run(driver, mem=mem, cpus=cpus)
        seen = bench.subject.limits_seen(bench.cluster_id, machine_id)
        assert seen.mem == pytest.approx(mem, rel=0.02)
        assert seen.cpus == pytest.approx(cpus)
        driver.remove(machine_id)


def test_a_second_driver_adopts_machines_which_keep_running(bench: Bench, driver: Driver) -> None:
    made, running = bench.add(driver), bench.run(driver)
    before = bench.incarnation(running)
    driver.close()
    second = bench.driver()
    assert {seen.machine_id: seen.condition for seen in second.observe()} == {
        made: Condition.STOPPED,
        running: Condition.RUNNING,
    }
    second.start(running)
    bench.add(second, running)
    assert bench.incarnation(running) == before
    second.start(made)
    for machine_id in (made, running):
        second.kill(machine_id)
        second.remove(machine_id)
    assert bench.leftovers() == []


def test_text_that_a_user_chose_survives_as_text(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver, labels=HOSTILE_LABELS, name='<b>ñ & "quotes" \']]>{{7*7}}')
    kept = bench.subject.labels_kept(bench.cluster_id, machine_id)
    assert {key: kept[key] for key in kept} == {key: HOSTILE_LABELS.get(key) for key in kept}
    seen = bench.subject.limits_seen(bench.cluster_id, machine_id)
    assert seen.mem == pytest.approx(192, rel=0.02)
    assert seen.cpus == pytest.approx(1)
    driver.kill(machine_id)
    driver.start(machine_id)
    driver.remove(machine_id)
    assert bench.leftovers() == []


def test_ids_that_are_not_names_reach_nothing_and_raise_only_errors_of_ours(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    before = bench.incarnation(machine_id), bench.leftovers()
    for hostile in HOSTILE_IDS:
        for verb in (driver.start, driver.stop, driver.kill, driver.remove):
            with suppress(GarbiError):
                verb(hostile)
        with suppress(GarbiError):
            assert driver.observe(hostile) == []
    assert bench.condition(driver, machine_id) is Condition.RUNNING
    assert (bench.incarnation(machine_id), bench.leftovers()) == before


def test_eight_threads_make_start_and_remove_different_machines(bench: Bench, driver: Driver) -> None:
    def whole_life(machine_id: str) -> None:
        bench.run(driver, machine_id)
        driver.kill(machine_id)
        driver.remove(machine_id)
        assert bench.look(driver, machine_id) is None

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(whole_life, [new_id() for _ in range(8)]))
    assert driver.observe() == []
    assert bench.leftovers() == []


@needs("serves_page")
def test_a_driver_that_publishes_ports_itself_leads_them_to_the_machine_while_it_runs(
    bench: Bench, driver: Driver
) -> None:
    port = free_port()
    machine_id = bench.run(driver, ports=(PublishedPort(port, 80),))
    eventually("a page on the published port", lambda: answers(port), bench.subject.notice_s)
    driver.kill(machine_id)
    assert not answers(port)
    driver.start(machine_id)
    eventually("a page on the published port", lambda: answers(port), bench.subject.notice_s)
    driver.remove(machine_id)
    with socket(AF_INET, SOCK_STREAM) as free_again:
        free_again.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)  # connections that have ended hold no port
        free_again.bind(("", port))


def answers(port: int) -> bool:
    """Whether a page is served there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
