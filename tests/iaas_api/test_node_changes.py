"""PATCH /iaas/nodes/{name}: what of a node is otherwise from now on, what is refused, and that no secret comes out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.iaas_api.conftest import Cloud, eventually

from garbi.base.token import new_secret


def test_a_node_takes_the_token_that_its_agent_has_by_now_and_shows_it_to_nobody(empty_cloud: Cloud) -> None:
    cloud = empty_cloud
    host = cloud.add_node("n1")
    wrong = new_secret()
    changed = cloud.ask("PATCH", "/iaas/nodes/n1", {"token": wrong})
    assert (changed.status, changed.json()["name"]) == (200, "n1")
    eventually(lambda: "refuses the token" in cloud.client.nodes.get("n1")["reason"], "the present error is told")
    media = {"Content-Type": "application/merge-patch+json"}
    again = cloud.ask("PATCH", "/iaas/nodes/n1", {"token": host.agent.secret}, media)
    assert again.status == 200
    eventually(lambda: cloud.client.nodes.get("n1")["state"] == "ready", "the node is ready")
    shown = b"".join(cloud.ask("GET", path).body for path in ("/iaas/nodes/n1", "/iaas/events?last=99&follow=false"))
    for secret in (wrong, host.agent.secret):
        assert secret.encode() not in changed.body + again.body + shown


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"token": ""}, "token"), ({"token": "a b" * 20}, "token"), ({"token": None}, "token"), ({"colour": 1}, "colour"),
        ({"power": {"options": {"ip": "x"}}}, "power.agent"), ({"power": {"agent": "../fence_x"}}, "power.agent"),
        ({"power": {"agent": "fence_x", "options": {"action": "reboot"}}}, "power.options"),
        ({"power": {"agent": "fence_x", "options": {"a b": "1"}}}, "power.options"),
        ({"power": {"agent": "fence_x", "options": {"ip": "1\naction=on"}}}, "power.options.ip"),
        ({"power": {"agent": "fence_x", "secrets": {"password": ""}}}, "power.options.password"),
    ],
)  # fmt: skip
def test_what_cannot_be_otherwise_is_refused_by_its_name(
    still_cloud: Cloud, change: dict[str, Any], field: str
) -> None:
    refused = still_cloud.ask("PATCH", "/iaas/nodes/n1", change)
    assert (refused.status, refused.json()["field"]) == (422, field)
    assert still_cloud.ask("PATCH", "/iaas/nodes/nobody", {"token": "t" * 40}).status == 404
    assert still_cloud.client.nodes.get("n1")["state"] == "ready"


def test_how_a_host_is_switched_off_is_kept_without_showing_a_secret(still_cloud: Cloud) -> None:
    cloud, path = still_cloud, "/iaas/nodes/n1"
    power = {
        "agent": "fence_ipmilan",
        "options": {"ip": "192.0.2.9", "passwd": "h1dden"},
        "secrets": {"password": "s3cret"},
    }
    first = cloud.ask("PATCH", path, {"power": power})
    assert first.json()["power"] == {
        "agent": "fence_ipmilan",
        "options": {"ip": "192.0.2.9"},
        "secrets": ["passwd", "password"],
    }
    second = cloud.ask(
        "PATCH", path, {"power": {"options": {"ip": "192.0.2.10", "lanplus": "1"}, "secrets": {"passwd": None}}}
    )
    assert second.json()["power"] == {
        "agent": "fence_ipmilan",
        "options": {"ip": "192.0.2.10", "lanplus": "1"},
        "secrets": ["password"],
    }
    tried = cloud.ask("POST", path + "/test-fence")
    assert (tried.status, tried.json()["code"]) == (503, "fence-failed")
    shown = [cloud.ask("GET", each).body for each in (path, "/iaas/nodes", "/iaas/events?last=99&follow=false")]
    for answer in (first.body, second.body, tried.body, *shown):
        assert b"s3cret" not in answer
        assert b"h1dden" not in answer
    other = cloud.ask("PATCH", path, {"power": {"agent": "fence_redfish"}})
    assert other.json()["power"] == {"agent": "fence_redfish", "options": {}, "secrets": []}
    assert cloud.ask("PATCH", path, {"power": None}).json()["power"] is None
    assert cloud.ask("POST", "/iaas/nodes/nobody/test-fence").status == 404
