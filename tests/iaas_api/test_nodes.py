"""/iaas/nodes over HTTP: how hosts join and leave, what is refused, and that no secret comes out."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.iaas_api.conftest import SPEC, Cloud, eventually


def test_a_node_lives_from_its_adding_to_its_removal(empty_cloud: Cloud) -> None:
    cloud = empty_cloud
    host = cloud.start_host("n1")
    added = cloud.ask("POST", "/iaas/nodes", {**host.request, "labels": {"rack": "a"}, "overcommit": {"cpus": 2}})
    assert added.status == 202
    assert added.headers["location"] == "/iaas/nodes/n1"
    assert added.headers["operation-location"] == f"/iaas/operations/{added.json()['operation']}"
    assert added.json()["state"] in ("adding", "ready")
    assert cloud.finish(added.json()["operation"])["state"] == "done"
    node = cloud.ask("GET", "/iaas/nodes/n1").json()
    assert (node["state"], node["address"], node["labels"]) == ("ready", host.request["address"], {"rack": "a"})
    assert node["limit"]["cpus"] == 2 * node["capacity"]["cpus"]
    assert node["overcommit"]["cpus"] == 2.0
    assert {"fake"} <= {driver["name"] for driver in node["drivers"] if driver["available"]}
    assert cloud.ask("GET", "/iaas/nodes?state=ready&name=n1").json()[0]["name"] == "n1"
    assert cloud.ask("GET", "/iaas/nodes?state=draining").json() == []
    assert cloud.ask("GET", "/iaas/nodes?draining=false&provision=false").json()[0]["name"] == "n1"
    assert cloud.ask("GET", "/iaas/nodes?draining=true").json() == []
    removed = cloud.ask("DELETE", "/iaas/nodes/n1")
    assert removed.status == 202
    assert cloud.finish(removed.headers["operation-location"].rpartition("/")[2])["state"] == "done"
    assert cloud.ask("GET", "/iaas/nodes/n1").status == 404


def test_a_node_has_what_the_contract_lists(still_cloud: Cloud) -> None:
    node = still_cloud.client.nodes.get("n1")
    listed = "name address state capacity use drivers versions labels seen_at reason"
    assert set(listed.split()) <= node.keys()


def test_what_machines_reserve_shows_in_the_node(cloud: Cloud) -> None:
    cloud.client.machines.add({**SPEC, "id": "web", "mem": 100, "cpus": 2, "disk": 7})
    node = cloud.client.nodes.get("n1")
    assert (node["use"], node["machines"]) == ({"mem": 100, "cpus": 2, "disk": 7}, 1)
    assert cloud.client.nodes.list()[0]["machines"] == 1
    cloud.client.machines.remove("web")
    assert cloud.client.nodes.get("n1")["use"] == {"mem": 0, "cpus": 0, "disk": 0}


def test_a_node_with_machines_leaves_only_by_force(empty_cloud: Cloud) -> None:
    cloud = empty_cloud
    cloud.add_node("n1")
    cloud.client.machines.add({**SPEC, "id": "web"})
    refused = cloud.ask("DELETE", "/iaas/nodes/n1")
    assert (refused.status, refused.json()["code"]) == (409, "conflict")
    assert "web" in refused.json()["detail"]
    forced = cloud.ask("DELETE", "/iaas/nodes/n1?force=true")
    assert forced.status == 202
    assert cloud.finish(forced.json()["operation"])["state"] == "done"
    assert cloud.hosts["n1"].agent.machines.list() == []
    assert cloud.ask("GET", "/iaas/machines/web").status == 404


def test_a_draining_node_takes_nothing_new_until_it_is_ready_again(cloud: Cloud) -> None:
    drained = cloud.ask("PUT", "/iaas/nodes/n1", {"state": "draining"})
    assert drained.status == 202
    assert cloud.finish(drained.json()["operation"])["state"] == "done"
    node = cloud.client.nodes.get("n1")
    assert (node["state"], node["draining"]) == ("draining", True)
    assert cloud.ask("POST", "/iaas/machines", SPEC).json()["code"] == "nothing-fits"
    ready = cloud.ask("PUT", "/iaas/nodes/n1", {"state": "ready"})
    assert (ready.status, ready.json()["draining"]) == (200, False)
    assert cloud.ask("POST", "/iaas/machines", SPEC).status == 201


def test_a_node_that_is_not_unreachable_cannot_be_confirmed_dead(still_cloud: Cloud) -> None:
    refused = still_cloud.ask("PUT", "/iaas/nodes/n1", {"state": "unavailable"})
    assert (refused.status, refused.json()["code"]) == (409, "conflict")


def test_a_name_or_an_address_that_is_taken_is_refused(still_cloud: Cloud) -> None:
    request = still_cloud.hosts["n1"].request
    for change in ({}, {"name": "n2"}):
        refused = still_cloud.ask("POST", "/iaas/nodes", {**request, **change})
        assert (refused.status, refused.json()["code"]) == (409, "already-exists")


def test_a_host_that_does_not_answer_becomes_a_failed_node_that_can_be_tried_again(empty_cloud: Cloud) -> None:
    cloud = empty_cloud
    host = cloud.start_host("n1")
    wrong = {**host.request, "token": "x" * 43}
    operation = cloud.finish(cloud.client.nodes.add(wrong)["operation"])
    assert operation["state"] == "failed"
    assert operation["error"]["code"]
    failed = cloud.client.nodes.get("n1")
    assert failed["state"] == "failed"
    assert failed["reason"]
    assert cloud.finish(cloud.client.nodes.add(host.request)["operation"])["state"] == "done"
    assert cloud.client.nodes.get("n1")["state"] == "ready"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "N1"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\n"}, "name"),
        ({"address": "10.0.0.5"}, "address"),
        ({"address": "10.0.0.5:0"}, "address"),
        ({"address": "10.0.0.5:99999"}, "address"),
        ({"address": ":8081"}, "address"),
        ({"address": "-oProxyCommand=id:8081"}, "address"),
        ({"address": "::1:8081"}, "address"),
        ({"address": "host\n:8081"}, "address"),
        ({"address": 5}, "address"),
        ({"provision": "yes"}, "provision"),
        ({"ssh": {"user": "-x"}}, "ssh.user"),
        ({"ssh": {"user": "root;id"}}, "ssh.user"),
        ({"ssh": {"port": 0}}, "ssh.port"),
        ({"ssh": {"key_file": 1}}, "ssh.key_file"),
        ({"ssh": {"password": "x"}}, "ssh.password"),
        ({"labels": {"a": "\u0000"}}, "labels"),
        ({"overcommit": {"mem": 0}}, "overcommit.mem"),
        ({"live_restore": "yes"}, "live_restore"),
        ({"live_restore": True}, "live_restore"),
        ({"live_restore": True, "provision": True, "witness": True}, "live_restore"),
        ({"overcommit": {"cpus": "16"}}, "overcommit.cpus"),
        ({"token": "short"}, "token"),
        ({"token": "x" * 600}, "token"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named_and_no_node_is_made(still_cloud: Cloud, change: dict[str, Any], field: str) -> None:
    spec = {"name": "n9", "address": "127.0.0.1:9", "provision": False, "token": "x" * 43, **change}
    refused = still_cloud.ask("POST", "/iaas/nodes", spec)
    assert (refused.status, refused.json()["field"]) == (422, field)
    assert [node["name"] for node in still_cloud.client.nodes.list()] == ["n1"]


@pytest.mark.parametrize("body", [{}, {"state": "removed"}, {"state": 1}, {"state": "ready", "x": 1}, [], "x"])
def test_a_wish_of_a_node_is_one_of_three_states(still_cloud: Cloud, body: Any) -> None:
    refused = still_cloud.ask("PUT", "/iaas/nodes/n1", body)
    assert (refused.status, refused.json()["code"]) == (422, "invalid-field")


def test_no_secret_comes_out_of_any_answer(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = [str(cloud.hosts["n1"].agent.secret), str(cloud.controller.secret)]
    cloud.client.machines.add({**SPEC, "id": "web"})
    doubtful = {**cloud.hosts["n1"].request, "ssh": {"user": "-x"}}
    answers = [cloud.ask("POST", "/iaas/nodes", doubtful).body.decode()]
    for path in ("nodes", "nodes/n1", "machines", "machines/web", "operations", "audit", "health"):
        answers.append(cloud.ask("GET", f"/iaas/{path}").body.decode())
    answers.append(cloud.ask("GET", "/metrics").body.decode())
    answers.append(str([event.reason for event in cloud.controller.events.since(0, 1000)]))
    answers.append(caplog.text)
    assert [secret for secret in secrets for answer in answers if secret in answer] == []


def test_the_figures_for_prometheus_count_nodes_machines_and_requests(empty_cloud: Cloud) -> None:
    cloud = empty_cloud
    cloud.add_node("n1")
    cloud.client.machines.add({**SPEC, "id": "web", "mem": 64})
    cloud.finish(cloud.client.machines.get("web")["operation"])
    text = cloud.ask("GET", "/metrics").body.decode()
    for line in (
        'garbi_iaas_nodes{state="ready"} 1.0',
        'garbi_iaas_nodes{state="unreachable"} 0.0',
        'garbi_iaas_machines{node="n1",state="running",type="fake"} 1.0',
        f'garbi_iaas_node_reserved_memory_bytes{{node="n1"}} {float(64 * 2**20)!r}',
        'garbi_iaas_running_operations{kind="machine-add"} 0.0',
        "garbi_iaas_unsettled_machines 0.0",
    ):
        assert line in text.replace("6.7108864e+07", repr(float(64 * 2**20)))
    assert 'garbi_iaas_http_requests_total{method="POST",path="/iaas/machines",status="201"} 1.0' in text


def test_a_healthy_cloud_has_nothing_to_say_in_its_audit(cloud: Cloud) -> None:
    cloud.client.machines.add(SPEC)
    eventually(lambda: cloud.client.audit() == [], "an audit without a violation")
