"""A silent node whose host is switched off by its own fence agent: its machines are created again elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.iaas.clouds import Cloud, FakeHost, eventually, node_is

from garbi.iaas.model.node import NodeChange, NodeState
from garbi.iaas.model.power import PowerChange

MakeNodes = Callable[..., list[FakeHost]]
AGENT = """#!/bin/sh
here=$(dirname "$0")
while read -r line; do
  case $line in action=*) action=${line#action=} ;; password=s3cret) known=1 ;; esac
done
[ -n "$known" ] || exit 1
case $action in
  off) echo off > "$here/state" ;;
  status) grep -q on "$here/state" || exit 2 ;;
  monitor) exit 0 ;;
  *) exit 1 ;;
esac
"""


def test_a_fence_agent_proves_a_node_dead_and_is_tried_without_harm(
    cloud: Cloud, fake_nodes: MakeNodes, place: Path
) -> None:
    agents = place / "agents"
    agents.mkdir(mode=0o755)
    (agents / "fence_test").write_text(AGENT)
    (agents / "fence_test").chmod(0o755)
    (agents / "state").write_text("on")
    cloud.settings = replace(cloud.settings, fence_dir=str(agents))
    host, _ = fake_nodes(2)
    change = PowerChange("fence_test", {"plug": "1"}, {"password": "s3cret"})
    cloud.controller.nodes.change("n1", NodeChange(power=change))
    assert cloud.controller.nodes.test_fence("n1").status == "on"
    assert (agents / "state").read_text() == "on"
    cloud.add(id="web", node="n1")
    host.stop()
    reason = node_is(cloud, "n1", NodeState.UNAVAILABLE).reason
    assert "fenced by fence-agent: fence_test switched 127.0.0.1 off" in reason
    assert (agents / "state").read_text() == "off\n"
    eventually("web is elsewhere", lambda: cloud.controller.machines.get("web").node == "n2")
    cloud.settled("web")
