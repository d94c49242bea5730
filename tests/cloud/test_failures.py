"""What goes wrong while a host becomes a node: each a clear error in the host's own words, and a way on."""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from garbi.base.errors import ProvisioningFailed
from garbi.iaas.model.node import Ssh
from garbi.iaas.provisioning import Target, TaskProgress
from garbi.iaas.provisioning.playbook import Outcome
from garbi.iaas.provisioning.work import add

from .conftest import Controller, client
from .hosts import Host, Lab

pytestmark = [pytest.mark.root, pytest.mark.docker]

OTHER_KEY = "SHA256:" + "A" * 43


@pytest.fixture(scope="module")
def host(lab: Lab, packaged_image: str) -> Host:
    """A host that refuses, for whatever reason, and stays as it is."""
    return lab.add_host(packaged_image)


def failure(controller: Controller, target: Target) -> ProvisioningFailed:
    with pytest.raises(ProvisioningFailed) as raised:
        controller.add(target)
    error = raised.value
    assert error.extra["host"] == target.host
    assert error.extra["words"]
    assert error.extra["task"] in error.detail
    assert not list((controller.data_dir / "provisioning").glob("*"))
    return error


def untouched(host: Host) -> bool:
    return host.run("ls -d /etc/garbi /opt/garbi /root/.garbi-ansible 2>/dev/null || true") == ""


def test_a_key_that_the_host_does_not_take_is_named_with_the_user(
    controller: Controller, host: Host, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    error = failure(controller, controller.target(host, key_file=str(other)))
    assert error.extra["task"] == "reach the host"
    assert "Permission denied" in error.detail
    assert f"does not let root in with the key {other}" in error.detail
    assert untouched(host)


def test_a_host_whose_key_is_not_known_is_refused_with_the_command_that_accepts_it(
    host: Host, lab: Lab, tmp_path: Path
) -> None:
    stranger = Controller(tmp_path, lab.key)
    (tmp_path / "provisioning").mkdir()
    error = failure(stranger, stranger.target(host, host_key=None))
    command = f"iaas node add node-8081 {host.address}:8081 --ssh-key {lab.key} --ssh-host-key {host.host_key}"
    assert command in error.detail
    assert untouched(host)


def test_a_host_that_shows_another_key_than_the_one_given_is_refused(host: Host, lab: Lab, tmp_path: Path) -> None:
    stranger = Controller(tmp_path, lab.key)
    (tmp_path / "provisioning").mkdir()
    error = failure(stranger, stranger.target(host, host_key=OTHER_KEY))
    assert OTHER_KEY in error.detail
    assert host.host_key in error.detail
    assert untouched(host)


def test_a_false_host_at_a_known_address_is_refused_until_its_new_key_is_given(
    controller: Controller, host: Host
) -> None:
    known = controller.target(host, host_key=None, user="nobody")
    failure(controller, replace(known, ssh=replace(known.ssh, host_key=host.host_key)))  # from now on its key is known
    host.run("rm /etc/ssh/ssh_host_*; ssh-keygen -q -A; systemctl restart ssh")
    error = failure(controller, known)
    assert "shows another key than the one that is known" in error.detail
    new = host.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    error = failure(controller, replace(known, ssh=replace(known.ssh, host_key=new)))
    assert "Permission denied" in error.detail  # the next thing that is wrong
    assert untouched(host)


@pytest.mark.parametrize("port", [22, 2222], ids=["nobody there", "nothing listens"])
def test_a_wrong_address_is_said_soon_and_in_plain_words(controller: Controller, host: Host, port: int) -> None:
    address = host.address if port == 2222 else host.address.rpartition(".")[0] + ".250"
    target = replace(controller.target(host, port=8081), host=address)
    error = failure(controller, replace(target, ssh=replace(target.ssh, port=port)))
    words = ("refused", "No route", "timed out", "no SSH server answered")
    assert any(each in error.detail for each in words)


def test_a_full_disk_is_said_in_the_hosts_words_and_the_addition_goes_on_once_there_is_room(
    controller: Controller, lab: Lab, packaged_image: str
) -> None:
    host = lab.add_host(packaged_image, ["--tmpfs=/opt:exec,size=24m"])
    target = controller.target(host)
    error = failure(controller, target)
    assert "No space left" in error.detail
    assert error.extra["task"] in ("Copy the wheels", "Install hyper")
    host.run("mount -o remount,size=500m /opt")
    controller.add(target)
    assert client(target).drivers()
    lab.remove(host)


def test_a_host_that_dies_half_way_is_missed_and_becomes_a_node_when_it_is_back(
    controller: Controller, lab: Lab, packaged_image: str
) -> None:
    host = lab.add_host(packaged_image)
    target = controller.target(host)

    def kill_when_installing(progress: TaskProgress) -> None:
        if progress.task == "Install hyper":
            host.kill()

    with pytest.raises(ProvisioningFailed) as raised:
        add(target, kill_when_installing, threading.Event(), controller.data_dir)
    assert raised.value.extra["task"] == "Install hyper"
    host.boot()
    controller.add(target)
    assert client(target).drivers()
    lab.remove(host)


def test_an_addition_that_is_cancelled_ends_at_once_with_all_that_it_started(
    controller: Controller, lab: Lab, packaged_image: str
) -> None:
    host = lab.add_host(packaged_image)
    cancelled = threading.Event()

    def cancel(progress: TaskProgress) -> None:
        if progress.task == "Install packages":
            cancelled.set()

    with pytest.raises(ProvisioningFailed, match="it was cancelled"):
        add(controller.target(host), cancel, cancelled, controller.data_dir)
    mine = str(controller.data_dir).encode()
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _readable(path)]
    assert not [line for line in lines if mine in line or host.address.encode() in line]
    lab.remove(host)


HOSTILE = """#!/bin/sh
if [ "$1" = -c ]; then echo 3.11; exit; fi
cat >/dev/null
cat <<'END'
%s
END
"""


def test_a_hostile_host_makes_the_controller_run_and_read_nothing(
    controller: Controller, lab: Lab, packaged_image: str, tmp_path: Path
) -> None:
    canary, touched = tmp_path / "canary", tmp_path / "touched"
    canary.write_text("the secret of the controller")
    evil = f"{{{{ lookup('pipe', 'touch {touched}; cat {canary}') }}}}{{% include '{canary}' %}}"
    facts = {"ansible_connection": "local", "ansible_host": evil, "ansible_python_interpreter": evil, evil: evil}
    answer = {
        "changed": evil, "ansible_facts": facts, "stat": {"exists": evil, "path": evil}, "msg": evil, "stdout": evil,
        "stdout_lines": [evil, "garbi: changed"], "warnings": [evil], "diff": {"before": evil}, "invocation": evil, "cache": evil,
    }  # fmt: skip
    host = lab.add_host(packaged_image)
    host.run(f"cat >/usr/bin/hostile <<'EOF'\n{HOSTILE % json.dumps(answer)}\nEOF\nchmod +x /usr/bin/hostile")
    host.run(f"cat >>/etc/os-release <<'EOF'\nVERSION_CODENAME=\"{evil}\"\nEOF\nhostname '{{{{ 7*7 }}}}' || true")
    host.run("ln -sf /usr/bin/hostile /usr/bin/python3")
    said = ""
    told: list[TaskProgress] = []
    try:
        outcome: Outcome | None = controller.add(controller.target(host), told)
    except ProvisioningFailed as error:
        outcome, said = None, error.detail
    assert len(told) > 3
    assert not touched.exists()
    assert canary.read_text() not in f"{outcome}{said}{told}"
    lab.remove(host)


def test_a_user_without_rights_is_told_what_is_missing(controller: Controller, host: Host) -> None:
    host.run("useradd -m plain; cd ~plain; mkdir -p .ssh; cp /root/.ssh/authorized_keys .ssh/;chown -R plain .")
    new = host.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    error = failure(controller, controller.target(host, user="plain", host_key=new))
    assert "may not become root without a password" in error.detail


def test_a_key_that_is_not_a_file_is_refused_before_anything_is_done(controller: Controller, host: Host) -> None:
    target = controller.target(host)
    missing = replace(target, ssh=Ssh(key_file="/nonexistent/key", host_key=host.host_key))
    with pytest.raises(Exception, match="key_file"):
        controller.add(missing)


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
