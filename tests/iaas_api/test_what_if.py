"""GET /iaas/nodes/{name}/what-if: what is foretold of a node's death, that asking changes nothing, and that it comes true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.iaas_api.conftest import LIMIT_S, SPEC, Cloud, cloud_in, eventually, place

from garbi.base.token import new_secret

Document = dict[str, Any]


@pytest.fixture
def guarded_cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A cloud with a program that could switch hosts off."""
    program = tmp_path / "power"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o700)
    with place() as path, cloud_in(path, power_command=str(program), power_limit_s=30.0) as cloud:
        yield cloud


def add(cloud: Cloud, id: str, node: str, mem: int = 64, policy: str = "recreate", **more: Any) -> None:
    """A machine on that node, which runs when this returns."""
    spec = {**SPEC, "id": id, "node": node, "mem": mem, "on_node_failure": policy, "restart": "no", **more}
    made = cloud.client.machines.add(spec, wait_s=LIMIT_S)
    assert made["state"] == "running", made


def silence(cloud: Cloud, name: str) -> None:
    """Have an agent not answer its controller any more; its machines run on."""
    cloud.client.nodes.change(name, {"token": new_secret()})
    eventually(lambda: cloud.client.nodes.get(name)["state"] == "unreachable", f"{name} is unreachable")


def fates(found: Document) -> dict[str, tuple[str, str | None]]:
    return {each["id"]: (each["fate"], each["to"]) for each in found["machines"]}


def why(found: Document) -> dict[str, str]:
    return {each["id"]: each["why"] for each in found["machines"]}


def written(cloud: Cloud) -> tuple[int, list[Document], list[Document]]:
    """What is known of the cloud, but for when somebody was last heard."""
    machines = [{**each, "seen_at": None} for each in cloud.client.machines.list()]
    nodes = [{name: each[name] for name in ("name", "state", "reason", "use")} for each in cloud.client.nodes.list()]
    return cloud.controller.events.last_seq(), machines, nodes


def crowd(cloud: Cloud) -> None:
    """Have machines of every kind on n1, for some of which there is room on n2 and n3; w1 is a witness."""
    client = cloud.client
    host = cloud.add_node("n1", mem=1200)
    cloud.add_node("n2", mem=1024)
    cloud.add_node("n3", mem=1024)
    cloud.add_node("w1", mem=1024, witness=True)
    add(cloud, "filler-2", "n2", mem=724)
    add(cloud, "filler-3", "n3", mem=524)
    for id, mem in (("small", 200), ("large", 400), ("middle", 300)):
        add(cloud, id, "n1", mem)
    for id, policy in (("disk", "stay"), ("off", "recreate"), ("broken", "recreate")):
        add(cloud, id, "n1", policy=policy)
    client.machines.wish("off", "stopped", wait_s=LIMIT_S)
    host.world.kill("broken")
    eventually(lambda: client.machines.get("broken")["state"] == "failed", "a machine failed by itself")


def test_what_is_foretold_is_one_pass_over_all_machines_changes_nothing_and_comes_true(empty_cloud: Cloud) -> None:
    cloud, client = empty_cloud, empty_cloud.client
    crowd(cloud)
    before = written(cloud)
    found = client.nodes.what_if("n1")
    assert fates(found) == {
        "large": ("moves", "n3"),
        "middle": ("moves", "n2"),
        "small": ("fits-nowhere", None),  # alone, it would fit on either
        "disk": ("stays", None),
        "off": ("stays", None),
        "broken": ("stays", None),
    }
    reasons = why(found)
    assert reasons["small"] == "memory on 2 nodes, state witness on 1"
    assert "policy is stay" in reasons["disk"]
    assert reasons["off"] == "it is not to run"
    assert reasons["broken"].startswith("it failed by itself: ")
    verdicts = {each["node"]: each for each in found["machines"][0]["verdicts"]}
    assert {name: each["filter"] for name, each in verdicts.items()} == {
        "n2": "memory", "n3": "memory", "w1": "state",
    }  # fmt: skip
    assert "200 MiB asked for, 100 of 1024 MiB free" in verdicts["n3"]["reason"]
    assert (found["node"], found["state"], found["held"]) == ("n1", "ready", "")
    assert written(cloud) == before

    silence(cloud, "n1")
    again = client.nodes.what_if("n1")
    assert (again["machines"], again["state"]) == (found["machines"], "unreachable")
    client.nodes.confirm_dead("n1")
    eventually(lambda: client.machines.get("large")["node"] == "n3", "what was foretold of the largest")
    eventually(lambda: client.machines.get("middle")["node"] == "n2", "what was foretold of the next")
    eventually(lambda: reasons["small"] in client.machines.get("small")["reason"], "the same reason is told")
    assert {client.machines.get(id)["node"] for id in ("small", "disk", "off", "broken")} == {"n1"}
    dead = client.nodes.what_if("n1")
    assert fates(dead) == {id: fate for id, fate in fates(found).items() if fate[0] != "moves"}
    assert (dead["fences"], dead["held"]) == ([], "")
    assert "known to be dead already" in dead["summary"]
    beside = client.nodes.what_if("n3")
    assert beside["beside"] == ["small"]  # it waits for room, too


def test_fences_say_what_they_cover_and_in_what_time_or_why_they_prove_nothing(guarded_cloud: Cloud) -> None:
    cloud = guarded_cloud
    cloud.add_node("n1")
    add(cloud, "web", "n1")
    cloud.client.nodes.change("n1", {"power": {"agent": "fence_of_nobody"}})
    found = cloud.client.nodes.what_if("n1")
    assert found["tried_after_s"] == 2.0
    told = {each["fence"]: each for each in found["fences"]}
    assert [*told] == ["ssh", "fence-agent", "power", "lease"]
    assert told["power"] == {"fence": "power", "applies": True, "why": "", "covers": "all", "within_s": 32.0}
    for fence, words in (("ssh", "not set up by this controller"), ("fence-agent", "cannot be read"),
                         ("lease", "does not end by itself")):  # fmt: skip
        assert (told[fence]["applies"], told[fence]["covers"], told[fence]["within_s"]) == (False, None, None)
        assert words in told[fence]["why"]
    assert fates(found) == {"web": ("fits-nowhere", None)}
    assert found["summary"] == "1 fits nowhere; power could prove it within 32 s"


def test_who_asks_is_told_what_holds_everything_up(empty_cloud: Cloud) -> None:
    cloud, client = empty_cloud, empty_cloud.client
    for number in (1, 2, 3):
        cloud.add_node(f"n{number}")
    add(cloud, "web", "n1")
    alone = client.nodes.what_if("n1")
    assert alone["held"] == ""
    assert "no fence could prove it; if its host is off: iaas node confirm-dead n1" in alone["summary"]
    silence(cloud, "n2")
    found = client.nodes.what_if("n1")
    assert found["held"].startswith("2 of 3 nodes seem dead at once (n1, n2): nothing is fenced or moved")
    assert fates(found) == {"web": ("moves", "n3")}  # by the operator's word
    assert client.nodes.what_if("n2")["held"] == ""  # it is the only one that is silent
    assert client.nodes.get("n1")["state"] == "ready"
    refused = cloud.ask("GET", "/iaas/nodes/nobody/what-if")
    assert (refused.status, refused.json()["detail"]) == (404, "no node is called 'nobody'")


def test_of_a_node_that_is_drained_what_the_drain_has_stopped_would_move(empty_cloud: Cloud) -> None:
    cloud, client = empty_cloud, empty_cloud.client
    cloud.add_node("n1", mem=1024, fake={"remove_delay_s": "3600"})
    cloud.add_node("n2", mem=1024)
    add(cloud, "filler", "n2", mem=724)
    add(cloud, "large", "n1", mem=400)
    add(cloud, "slow", "n1", mem=200)
    client.nodes.drain("n1")
    eventually(lambda: client.nodes.get("n1")["drained"] == ["large"], "the drain has stopped what fits nowhere")
    client.machines.remove("filler", wait_s=LIMIT_S)
    found = client.nodes.what_if("n1")
    assert found["state"] == "draining"
    assert fates(found) == {"large": ("moves", "n2"), "slow": ("moves", "n2")}
    assert why(found)["slow"].endswith("it is on its way already: node n1 is drained")
    silence(cloud, "n1")
    client.nodes.confirm_dead("n1")
    for id in ("large", "slow"):
        eventually(lambda id=id: client.machines.get(id)["node"] == "n2", f"{id} went where that was foretold")


def test_nothing_follows_from_the_silence_of_a_node_that_is_being_removed(empty_cloud: Cloud) -> None:
    cloud, client = empty_cloud, empty_cloud.client
    cloud.add_node("n1", fake={"remove_delay_s": "3600"})
    cloud.add_node("n2")
    add(cloud, "web", "n1")
    client.nodes.remove("n1", force=True)
    eventually(lambda: client.machines.get("web")["wish"] == "removed", "its machine is being removed")
    found = client.nodes.what_if("n1")
    assert found["held"] == "the node is removing: nothing of it is fenced or moved"
    assert (fates(found), why(found)) == ({"web": ("stays", None)}, {"web": "it is being removed"})
