"""Two bare hosts become nodes at the same time over real SSH, and one of them becomes what it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from garbi.base.errors import Unauthenticated
from garbi.base.token import new_secret
from garbi.iaas.provisioning import Target, TaskProgress

from .conftest import PORT, Controller, at_once, client
from .hosts import Host, Lab

pytestmark = [pytest.mark.root, pytest.mark.docker]


@dataclass(frozen=True)
class Node:
    host: Host
    before: set[str]
    target: Target
    told: list[TaskProgress]
    command_lines: set[bytes]


@pytest.fixture(scope="module")
def nodes(lab: Lab, bare_image: str, data_dir: Path) -> list[Node]:
    """Two hosts, added at the same time, with what was seen on the way."""
    controller = Controller(data_dir, lab.key)

    def boot() -> tuple[Host, set[str]]:
        host = lab.add_host(bare_image)
        return host, host.state()

    booted = [boot(), boot()]
    found = [Node(host, before, controller.target(host), [], set()) for host, before in booted]
    with watched_command_lines() as seen:
        at_once(*(lambda node=node: controller.add(node.target, node.told) for node in found))  # type: ignore[misc]
    return [replace(node, command_lines=seen) for node in found]


def test_two_hosts_added_at_once_answer_to_their_own_tokens_and_to_nobody_else(nodes: list[Node]) -> None:
    first, second = nodes
    for node, other in ((first, second), (second, first)):
        drivers = {document["name"]: document for document in client(node.target).drivers()}
        assert [name for name in ("docker", "libvirt") if not drivers[name]["available"]] == []
        with pytest.raises(Unauthenticated):
            client(node.target, other.target.token).drivers()


def test_progress_names_every_task_of_how_many(nodes: list[Node]) -> None:
    for node in nodes:
        assert [told.step for told in node.told] == list(range(1, node.told[0].steps + 1))
        assert {told.steps for told in node.told} == {len(node.told)}
        assert all(told.task for told in node.told)


def test_the_token_is_in_no_command_line_of_controller_or_host_and_in_no_file_of_the_controller(
    nodes: list[Node], data_dir: Path
) -> None:
    for node in nodes:
        token = node.target.token.encode()
        assert any(b"ansible" in line for line in node.command_lines)
        assert not [line for line in node.command_lines if token in line]
        assert not [path for path in data_dir.rglob("*") if path.is_file() and token in path.read_bytes()]
        logged = node.host.run("journalctl -q -o cat; cat /var/log/*.log 2>/dev/null; cat /etc/garbi/*.env")
        assert node.target.token not in logged
    assert list((data_dir / "provisioning").iterdir()) == []


def test_the_secret_and_the_settings_of_a_node_are_for_root_alone(nodes: list[Node]) -> None:
    modes = nodes[0].host.run(f"stat -c '%a %U' /var/lib/garbi/node-{PORT}/token /etc/garbi/node-{PORT}.env")
    assert modes.splitlines() == ["600 root", "600 root"]


def test_nothing_is_compiled_on_a_node_and_libvirt_is_bound_by_the_distribution(nodes: list[Node]) -> None:
    host = nodes[0].host
    assert host.run("command -v gcc cc make || true") == ""
    link = host.run(f"readlink -f /opt/garbi/node-{PORT}/lib/python3*/site-packages/libvirt.py")
    assert link.strip() == "/usr/lib/python3/dist-packages/libvirt.py"


def test_adding_a_node_again_changes_nothing(nodes: list[Node], controller: Controller) -> None:
    node = nodes[0]
    pid = node.host.run(f"systemctl show -p MainPID garbi-hyper@{PORT}")
    assert controller.add(node.target).changed == 0
    assert node.host.run(f"systemctl show -p MainPID garbi-hyper@{PORT}") == pid


def test_a_second_node_on_a_host_comes_and_goes_and_a_new_token_ends_the_old_one(
    nodes: list[Node], controller: Controller
) -> None:
    host, old = nodes[1].host, nodes[1].target
    second = controller.target(host, PORT + 1)
    controller.add(second)
    new = replace(old, token=new_secret())
    controller.add(new)
    assert client(second).host()["cluster_id"] != client(new).host()["cluster_id"]
    with pytest.raises(Unauthenticated):
        client(old).drivers()
    outcome = controller.remove(second)
    assert any("another node stays" in note for note in outcome.notes)
    assert client(new).drivers()
    left = host.run(
        f"ls -d /etc/garbi/node-{PORT + 1}* /opt/garbi/node-{PORT + 1} /var/lib/garbi/node-{PORT + 1}", False
    )
    assert left == ""


def test_a_removed_node_leaves_its_host_as_it_was(nodes: list[Node], controller: Controller) -> None:
    node = nodes[0]
    controller.remove(node.target)
    after = node.host.state()
    assert sorted(after - node.before) == []
    assert sorted(node.before - after) == []


def test_removing_what_was_removed_changes_nothing(nodes: list[Node], controller: Controller) -> None:
    controller.remove(nodes[0].target)
    assert controller.remove(nodes[0].target).changed == 0


@contextmanager
def watched_command_lines() -> Iterator[set[bytes]]:
    """Every command line of this machine, those inside its containers included, for as long as the block runs."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
