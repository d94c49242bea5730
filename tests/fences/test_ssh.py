"""The SSH fence on a real host with systemd: what the host says is believed only when it is plain, whoever the host is."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cloud import hosts
from tests.cloud.hosts import Host, Lab, wait_until
from tests.fences.nodes import a_node

from garbi.base.errors import FenceFailed
from garbi.iaas.fences.protocol import Proof, Scope
from garbi.iaas.fences.ssh import IMPATIENT, SshFence
from garbi.iaas.model.node import Node, Ssh
from garbi.iaas.provisioning.ssh import Patience

pytestmark = [pytest.mark.root, pytest.mark.docker]

CONTROLLER = "ab" * 16
PATIENT = Patience(connect_s=60)
OTHER_KEY = "SHA256:" + "A" * 43
HYPER = "/opt/garbi/node-8081/bin/hyper"
UNIT = "[Service]\nExecStart=/bin/sleep 100000\n"
ANSWER: dict[str, Any] = {"fenced": 3, "boot_id": "b0", "stopped": ["web", "db"], "running": [], "left": ["vm-1"]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    """A host with a unit where the agent's would be, and a user who may become root."""
    host = lab.add_host(hosts.bare_image())
    host.run(f"mkdir -p {Path(HYPER).parent} /etc/garbi; printf '{UNIT}' >/etc/systemd/system/garbi-hyper@.service")
    host.run("useradd -m -d /srv/plain plain; useradd -m -d /srv/admin admin; mkdir -p /etc/sudoers.d")
    host.run("echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin")
    host.run("for user in plain admin; do cp -r /root/.ssh /srv/$user/; chown -R $user /srv/$user/.ssh; done")
    return host


class Scene:
    """A controller's directory, the node on the host, and what `hyper` says there."""

    def __init__(self, host: Host, lab: Lab, data_dir: Path) -> None:
        self.host, self.data_dir = host, data_dir
        self.ssh = Ssh(key_file=str(lab.key), host_key=host.host_key)
        self.fence = SshFence(CONTROLLER, data_dir)
        self.agent("start")

    def agent(self, verb: str) -> None:
        self.host.run(
            f"systemctl unmask -q garbi-hyper@8081; systemctl daemon-reload; systemctl {verb} garbi-hyper@8081"
        )

    def hyper(self, script: str) -> None:
        """Have the host's hyper do this."""
        self.host.run(f"cat >{HYPER} <<'END'\n#!/bin/sh\n{script}\nEND\nchmod +x {HYPER}")

    def answers(self, answer: Any, code: int = 0) -> None:
        """Have the host's hyper say this."""
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self.hyper(f"echo \"$*\" >>/root/calls\ncat <<'EOF'\n{text}\nEOF\nexit {code}")

    def node(self, **other: Any) -> Node:
        return a_node(host=self.host.address, ssh=replace(self.ssh, **other))

    def prove(self, cancelled: threading.Event | None = None, node: Node | None = None) -> Proof:
        return self.fence.prove(node or self.node(), cancelled or threading.Event())

    def refusal(self, node: Node | None = None) -> str:
        with pytest.raises(FenceFailed) as raised:
            self.prove(node=node)
        assert not list((self.data_dir / "provisioning").glob("*"))
        assert len(raised.value.detail) < 1000
        return raised.value.detail


@pytest.fixture
def scene(host: Host, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("garbi.iaas.fences.ssh.IMPATIENT", PATIENT)
    monkeypatch.setattr("garbi.iaas.provisioning.hostkeys.RECALL_TIMEOUT_S", 20)
    host.run("rm -f /root/calls; rm -rf /etc/garbi/*")
    return Scene(host, lab, tmp_path)


def test_a_host_that_stopped_its_machines_has_proven_it_for_those_that_may_run_elsewhere(scene: Scene) -> None:
    scene.answers(ANSWER)
    proof = scene.prove()
    assert (proof.by, proof.scope) == ("ssh", Scope.RECREATABLE)
    assert "stopped web, db, left vm-1 running" in proof.words
    command = f"fence --controller {CONTROLLER} --number 3 --data-dir /var/lib/garbi/node-8081"
    assert scene.host.run("cat /root/calls").splitlines() == [command]
    assert not list((scene.data_dir / "provisioning").glob("*"))


def test_hyper_sees_the_settings_of_its_node_as_the_agent_does(scene: Scene) -> None:
    scene.host.run(
        "printf 'GARBI_HYPER_PORT=8081\\n# x\\nGARBI_DRIVER_X=$(touch /root/evil) a\\nPATH=/evil\\n' >/etc/garbi/node-8081.env"
    )
    scene.hyper(f"env >/root/environment; echo '{json.dumps(ANSWER)}'")
    scene.prove()
    seen = scene.host.run("cat /root/environment").splitlines()
    assert "GARBI_HYPER_PORT=8081" in seen
    assert "GARBI_DRIVER_X=$(touch /root/evil) a" in seen
    assert scene.host.run("ls /root/evil 2>/dev/null || echo none").strip() == "none"
    assert "PATH=/evil" not in seen


def test_a_user_who_may_become_root_fences_as_root(scene: Scene) -> None:
    scene.hyper(f"id -u >/root/calls; echo '{json.dumps(ANSWER)}'")
    scene.prove(node=scene.node(user="admin"))
    assert scene.host.run("cat /root/calls").strip() == "0"


def test_a_user_who_may_not_become_root_proves_nothing(scene: Scene) -> None:
    scene.answers(ANSWER)
    assert "sudo" in scene.refusal(scene.node(user="plain"))


def test_an_agent_that_runs_is_left_alone_and_a_dead_one_is_started_again(scene: Scene) -> None:
    scene.answers(ANSWER)
    assert "agent" not in scene.prove().words
    scene.agent("stop")
    assert "its agent was started again" in scene.prove().words
    scene.host.wait_for("systemctl is-active garbi-hyper@8081")


def test_an_agent_that_cannot_be_started_is_no_failure_of_the_fence(scene: Scene) -> None:
    scene.answers(ANSWER)
    scene.host.run("systemctl stop garbi-hyper@8081; systemctl mask -q --runtime garbi-hyper@8081")
    try:
        assert "its agent cannot be started: Failed to start garbi-hyper@8081.service" in scene.prove().words
    finally:
        scene.host.run("systemctl unmask -q --runtime garbi-hyper@8081")


def test_an_agent_is_not_started_again_when_nothing_was_proven(scene: Scene) -> None:
    scene.answers(ANSWER | {"running": ["web"]}, code=1)
    scene.agent("stop")
    assert "could not stop web" in scene.refusal()
    assert scene.host.run("systemctl is-active garbi-hyper@8081 || true").strip() == "inactive"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "cannot be read"),
        ("nonsense", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "cannot be read"),
        (ANSWER | {"fenced": 2}, "did not end lease 3"),
        (ANSWER | {"fenced": 4}, "did not end lease 3"),
        (ANSWER | {"fenced": "3"}, "did not end lease 3"),
        (ANSWER | {"fenced": True}, "did not end lease 3"),
        (ANSWER | {"running": ["web"]}, "could not stop web"),
        (ANSWER | {"running": ["web"], "why": {"web": "its processes\ndo not end"}}, "stop web: its processes do not end"),
        (ANSWER | {"running": ["web"], "why": ["\x1b"]}, "could not stop web"),
        (ANSWER | {"running": None}, "'running'"),
        (ANSWER | {"running": 0}, "'running'"),
        ({key: value for key, value in ANSWER.items() if key != "running"}, "'running'"),
        (ANSWER | {"stopped": "all"}, "'stopped'"),
        (ANSWER | {"left": ["\x1b[31m"]}, "'left'"),
        (ANSWER | {"left": [["a"]]}, "'left'"),
        (json.dumps(ANSWER) + "\ngarbi-fence 0 " + json.dumps(ANSWER), "more than once"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_plain_proves_nothing(scene: Scene, answer: Any, said: str) -> None:
    scene.answers(answer)
    assert said in scene.refusal()


def test_a_hyper_that_fails_proves_nothing_and_is_quoted(scene: Scene) -> None:
    scene.hyper(f"echo '{json.dumps(ANSWER)}'; printf 'disk \\033[31mfull\\n' >&2; exit 4")
    assert "hyper fence ended with 4 on the host: disk full" in scene.refusal()


def test_a_host_that_talks_without_end_proves_nothing(scene: Scene) -> None:
    scene.hyper("yes '{' | head -c 20000000; yes | head -c 3000000 >&2")
    assert "cannot be read" in scene.refusal() or "nothing that can be read" in scene.refusal()


def test_a_host_without_hyper_proves_nothing(scene: Scene) -> None:
    scene.host.run(f"rm -f {HYPER}")
    assert "hyper is not installed for this node" in scene.refusal()


def test_a_hyper_that_hangs_is_ended_on_the_host_and_proves_nothing(scene: Scene) -> None:
    scene.fence = SshFence(CONTROLLER, scene.data_dir, limit_s=12.0)
    scene.hyper("echo $$ >/root/pid; exec sleep 100000")
    assert "did not end in time on the host" in scene.refusal()
    scene.host.wait_for("! kill -0 $(cat /root/pid) 2>/dev/null")


def test_a_fence_that_is_cancelled_in_the_middle_ends_at_once_and_leaves_nothing_here(scene: Scene) -> None:
    scene.hyper("touch /root/begun; exec sleep 20")
    scene.host.run("rm -f /root/begun")
    cancelled = threading.Event()

    def cancel() -> None:
        scene.host.wait_for("[ -e /root/begun ]")
        cancelled.set()

    threading.Thread(target=cancel).start()
    with pytest.raises(FenceFailed, match="it was cancelled"):
        scene.prove(cancelled)
    wait_until(lambda: not _processes_with(str(scene.data_dir)))
    assert not list((scene.data_dir / "provisioning").glob("*"))


def test_a_host_that_shows_another_key_than_the_known_one_proves_nothing(scene: Scene) -> None:
    scene.answers(ANSWER)
    assert OTHER_KEY in scene.refusal(scene.node(host_key=OTHER_KEY))
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    (scene.data_dir / "known_hosts").write_text(f"{scene.host.address} {other}\n")
    assert "shows another key than the one that is known" in scene.refusal()
    assert scene.host.run("ls /root/calls 2>/dev/null || echo none").strip() == "none"


def test_a_host_whose_key_was_never_known_is_not_asked(scene: Scene) -> None:
    scene.answers(ANSWER)
    assert "not known to this controller" in scene.refusal(scene.node(host_key=None))
    assert scene.host.run("ls /root/calls 2>/dev/null || echo none").strip() == "none"


def test_a_key_that_the_host_does_not_take_is_named(scene: Scene, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    assert "does not let root in: " in scene.refusal(scene.node(key_file=str(tmp_path / "other")))
    assert "key_file" in scene.refusal(scene.node(key_file=str(tmp_path / "none")))


def test_a_host_that_is_down_or_frozen_is_given_up_soon(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.answers(ANSWER)
    scene.prove()  # its key is known to SSH from now on
    monkeypatch.setattr("garbi.iaas.fences.ssh.IMPATIENT", IMPATIENT)
    (scene.data_dir / "known_hosts").write_text(
        "".join(f"{address} {_key(scene.host)}\n" for address in (scene.host.address, _nobody(scene.host)))
    )
    said = scene.refusal(replace(scene.node(), host=_nobody(scene.host)))
    assert any(words in said for words in ("timed out", "No route"))
    subprocess.run(["docker", "pause", scene.host.name], check=True, stdout=subprocess.DEVNULL)
    try:
        assert "timed out" in scene.refusal()
    finally:
        subprocess.run(["docker", "unpause", scene.host.name], check=True, stdout=subprocess.DEVNULL)


def test_a_node_that_was_not_provisioned_has_no_ssh(scene: Scene) -> None:
    assert "not set up by this controller" in (scene.fence.applies_to(a_node(provision=False)) or "")
    assert scene.fence.applies_to(scene.node()) is None


def _nobody(host: Host) -> str:
    return host.address.rpartition(".")[0] + ".250"


def _key(host: Host) -> str:
    return " ".join(host.run("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])


def _processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found
