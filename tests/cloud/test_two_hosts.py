"""The whole cloud: two hosts become nodes at the same time, machines of both types run on both, one host leaves and is clean."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from tests.host.agent.host_agent import build_images

from .conftest import at_once
from .controllers import Cloud, add_node
from .hosts import Host, Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]

PAGES, FETCHER = 18080, 18081


@pytest.fixture
def hosts(lab: Lab, packaged_image: str) -> list[tuple[Host, set[str]]]:
    """Two hosts, and what was on each."""
    booted = [lab.add_host(packaged_image), lab.add_host(packaged_image)]
    for host in booted:
        host.wait_for("docker info >/dev/null && virsh -c qemu:///system uri")
    return [(host, host.state()) for host in booted]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path)
    try:
        yield cloud
    finally:
        cloud.close()


def test_two_hosts_become_a_cloud_and_one_of_them_leaves_it_clean(
    cloud: Cloud, hosts: list[tuple[Host, set[str]]], lab: Lab, tmp_path: Path
) -> None:
    (one, _), (two, two_before) = hosts
    images = build_images(tmp_path)
    cloud("img", "add", "vm", str(images.vm), "--type", "qcow2")
    cloud("img", "add", "container", str(images.container), "--type", "docker")

    at_once(lambda: add_node(cloud, lab, "one", one), lambda: add_node(cloud, lab, "two", two))
    nodes = {node["name"]: node for node in yaml.safe_load(cloud("node", "ls", "-o", "json"))}
    assert {name: node["state"] for name, node in nodes.items()} == {"one": "ready", "two": "ready"}

    at_once(
        lambda: cloud("vm", "add", "vm", "-i", "vm-one", "-n", "one", "-m", "128", "-p", f"{FETCHER}:80"),
        lambda: cloud("vm", "add", "vm", "-i", "vm-two", "-n", "two", "-m", "128"),
        lambda: cloud("vm", "add", "container", "-i", "pages", "-n", "two", "-m", "64", "-p", f"{PAGES}:80"),
        lambda: cloud("vm", "add", "container", "-i", "moves", "-n", "two", "-m", "64"),
        lambda: cloud("vm", "add", "container", "-i", "stays", "-n", "one", "-m", "64"),
    )
    running = cloud.machines(state="running")
    assert {name: machine["node"] for name, machine in running.items()} == {
        "vm-one": "one", "stays": "one", "vm-two": "two", "pages": "two", "moves": "two",
    }  # fmt: skip
    assert "Hello from pages" in fetched(f"http://{two.address}:{PAGES}/")
    assert "Hello from pages" in fetched(f"http://{one.address}:{FETCHER}/cgi-bin/fetch?{two.address}:{PAGES}")

    cloud("node", "drain", "two")
    assert {name: (each["node"], each["state"]) for name, each in cloud.machines().items()} == {
        "vm-one": ("one", "running"),
        "stays": ("one", "running"),
        "moves": ("one", "running"),
        "pages": ("one", "running"),
        "vm-two": ("two", "stopped"),
    }
    assert "Hello from pages" in fetched(f"http://{one.address}:{PAGES}/")
    refused = cloud.done("vm", "add", "container", "-n", "two", "-m", "64")
    assert refused.returncode == 1
    assert "drain" in refused.stderr

    refused = cloud.done("node", "rm", "two")
    assert refused.returncode == 1
    assert "vm-two" in refused.stderr
    cloud("vm", "rm", "vm-two")
    cloud("node", "rm", "two")
    after = two.state()
    assert (sorted(after - two_before), sorted(two_before - after)) == ([], [])
    assert set(cloud.machines(state="running")) == {"vm-one", "stays", "moves", "pages"}
    assert cloud("audit", "-o", "json").strip() in ("[]", "")


def fetched(url: str) -> str:
    """The page, once it answers."""
    pages: list[str] = []

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(url, timeout=20) as answer:
            pages.append(answer.read().decode())
        return bool(pages)

    wait_until(answers)
    return pages[0]
