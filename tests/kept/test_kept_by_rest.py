"""Kept disks over REST and on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.api.conftest import Server
from tests.api.conftest import data_dir as data_dir
from tests.api.conftest import server as server
from tests.api.conftest import start_server as start_server
from tests.api.conftest import web as web

from garbi.base.errors import NotFound

DAY_S = 86400


def test_a_removal_that_keeps_the_disk_lists_it_until_it_is_deleted(server: Server, web: dict[str, Any]) -> None:
    assert server.client.machines.remove("web", wait_s=60, keep_s=DAY_S) is None
    (disk,) = server.client.kept.list()
    assert (disk["name"], disk["machine_id"], disk["type"]) == ("web.0", "web", "fake")
    assert DAY_S - 3600 < disk["left_s"] <= disk["keep_s"] == DAY_S
    assert server.client.kept.get("web.0") == disk
    assert server.client.kept.list({"machine_id": "other"}) == []
    server.client.kept.remove("web.0")
    assert server.client.kept.list() == []
    with pytest.raises(NotFound, match="no disk is kept"):
        server.client.kept.remove("web.0")


@pytest.mark.parametrize("query", ["keep_s=-1", "keep_s=soon", "keep_s=", "keep_s=315360001", "keep_s=1.5"])
def test_a_wrong_time_is_refused_by_name_and_the_machine_stays(server: Server, web: dict[str, Any], query: str) -> None:
    reply = server.ask("DELETE", f"/hyper/machines/web?{query}")
    assert (reply.status, reply.json()["code"]) == (422, "invalid-field")
    assert "keep_s" in reply.json()["detail"]
    assert server.client.machines.get("web")["state"] == "running"


def test_lists_take_filters_and_pages_and_refuse_what_they_do_not_know(server: Server) -> None:
    for machine_id in ("a", "b"):
        server.client.machines.add({"image": "any", "type": "fake", "id": machine_id})
        server.client.machines.remove(machine_id, wait_s=60, keep_s=DAY_S)
    assert [each["name"] for each in server.ask("GET", "/hyper/kept?limit=1&marker=a.0").json()] == ["b.0"]
    assert server.ask("GET", "/hyper/kept?epoch=1").json() == []
    assert server.ask("GET", "/hyper/kept?colour=red").status == 400
    assert server.ask("GET", "/hyper/kept", known=False).status == 401


def test_the_command_line_keeps_lists_and_deletes(server: Server, web: dict[str, Any]) -> None:
    assert server.hyper("rm", "web", "--keep-s", "600").stdout == "web\n"
    assert server.hyper("kept", "ls", "-q", "machine_id=web").stdout == "web.0\n"
    assert json.loads(server.hyper("kept", "ls", "-o", "json").stdout)[0]["keep_s"] == 600
    assert "web.0" in server.hyper("kept", "ls").stdout
    assert server.hyper("kept", "rm", "web.0").stdout == "web.0\n"
    gone = server.hyper("kept", "rm", "web.0")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "no disk is kept as web.0" in gone.stderr
