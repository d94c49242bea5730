"""How fresh is what is told of nodes and machines: when they were last heard of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from tests.observability.conftest import eventually

from garbi.devcloud import DevCloud

SPEC = {"image": "any", "type": "fake", "mem": 16}


@pytest.fixture
def cloud() -> Iterator[DevCloud]:
    with DevCloud(nodes=1) as cloud:
        yield cloud


def seen(document: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(document["seen_at"])


def test_a_machine_at_rest_is_as_fresh_as_the_last_word_of_its_node(cloud: DevCloud) -> None:
    cloud.client.machines.add({**SPEC, "id": "web"})
    first = cloud.client.machines.get("web")
    changed = datetime.fromisoformat(first["updated_at"])

    def heard_again() -> bool:
        (listed,) = cloud.client.machines.list()
        return seen(listed) > max(changed, seen(first)) and seen(cloud.client.machines.get("web")) > seen(first)

    eventually("its node spoke of it again", heard_again)
    assert cloud.client.machines.get("web")["updated_at"] == first["updated_at"]


def test_a_machine_of_a_silent_node_stays_as_old_as_the_last_word(cloud: DevCloud) -> None:
    cloud.client.machines.add({**SPEC, "id": "web"})
    eventually("it is seen", lambda: cloud.client.machines.get("web")["seen_at"] is not None)
    cloud.nodes["node-1"].stop()
    eventually("it is unknown", lambda: cloud.client.machines.get("web")["state"] == "unknown")
    machine = cloud.client.machines.get("web")
    assert "no answer since" in machine["reason"]
    assert seen(machine) < datetime.fromisoformat(machine["updated_at"])
    assert cloud.client.machines.get("web")["seen_at"] == machine["seen_at"]
