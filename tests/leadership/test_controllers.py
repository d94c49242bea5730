"""Several controllers on one database: one works, all answer, and who asks one of them need not know which it is."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from tests.iaas.clouds import FakeHost, eventually, machine_spec
from tests.leadership.pairs import Controllers, join, leads, settled

from garbi.base.checks import CheckStatus
from garbi.base.errors import NotLeading
from garbi.base.http import HttpTransport, Request
from garbi.devcloud.background import Background
from garbi.hyper_api.vocabulary import ImageType, State, Wish
from garbi.iaas.doctor import check_leadership
from garbi.iaas.rest.server import Service
from garbi.iaas_api.client import IaasClient

MakeHost = Callable[[], FakeHost]


def test_the_second_follows_and_what_it_accepts_is_done_by_the_first(
    controllers: Controllers, make_host: MakeHost
) -> None:
    first, second = controllers.open(), controllers.open()
    assert (first.leadership.leads, second.leadership.leads) == (True, False)
    join(second, make_host())
    second.machines.add(machine_spec(id="web"))
    assert settled(second, "web").state is State.RUNNING
    assert settled(first, "web").state is State.RUNNING
    second.machines.wish("web", Wish.STOPPED)
    assert settled(second, "web").state is State.STOPPED
    second.machines.remove("web")
    eventually("web gone", lambda: first.machines.list() == [])
    assert second.machines.wait_settled("web", 60) is None
    assert second.audit() == first.audit() == []


def test_the_second_leads_when_the_first_ends(controllers: Controllers, make_host: MakeHost) -> None:
    first, second = controllers.open(), controllers.open()
    host = make_host()
    join(first, host)
    first.machines.add(machine_spec(id="a"))
    settled(first, "a")
    term = first.leadership.term
    first.close()
    leads(second)
    assert second.leadership.term == term + 1
    second.machines.add(machine_spec(id="b"))
    assert settled(second, "b").state is State.RUNNING
    assert host.running() == ["a", "b"]
    third = controllers.open()
    assert not third.leadership.leads
    assert third.audit() == []


def test_the_second_has_the_token_of_the_first_and_says_that_it_follows(controllers: Controllers) -> None:
    first, second = controllers.open(), controllers.open()
    assert second.secret == first.secret
    files = [(each.settings.data_dir / "token") for each in (first, second)]
    assert files[0].read_text() == files[1].read_text()
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    answering = Background(Service(second, "127.0.0.1", 0), "second")
    try:
        health = IaasClient(answering.url, token=first.secret).health()
        assert (health["status"], health["leads"], health["term"]) == ("ok", False, first.leadership.term)
        assert f"pid {os.getpid()}" in health["leader"]
        asked = Request("GET", "/metrics", {"Authorization": f"Bearer {first.secret}"})
        figures = HttpTransport(answering.url).send(asked).read().decode()
        assert "garbi_iaas_leads 0.0" in figures
        assert "garbi_iaas_term 1.0" in figures
    finally:
        answering.stop()
    found = check_leadership(second.settings)
    assert found is not None
    assert (found.status, "1 more wait" in found.found) == (CheckStatus.OK, True), found


def test_images_are_for_the_leader_and_a_follower_says_who_that_is(controllers: Controllers) -> None:
    first, second = controllers.open(), controllers.open()
    for verb in (
        lambda: second.images.register("tiny", ImageType.RAW),
        lambda: second.images.receive("tiny", 0, [b"x"]),
        lambda: second.images.remove("tiny"),
    ):
        with pytest.raises(NotLeading, match=f"pid {os.getpid()}"):
            verb()
    first.images.register("tiny", ImageType.RAW)
    assert [image.name for image in second.images.list()] == ["tiny"]
    assert first.leadership.leads
