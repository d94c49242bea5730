"""A host that has a Docker of somebody's own already becomes a node, and is given back as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from garbi.base.errors import ProvisioningFailed

from .conftest import Controller
from .hosts import Lab

pytestmark = [pytest.mark.root, pytest.mark.docker]

SETTINGS = "/etc/docker/daemon.json"
OWN = '{"log-driver": "local"}'


def test_a_docker_that_is_found_is_set_to_live_restore_when_asked_and_given_back(
    controller: Controller, lab: Lab, packaged_image: str
) -> None:
    host = lab.add_host(packaged_image)
    host.run(f"echo '{{' >{SETTINGS}")
    target = replace(controller.target(host), live_restore=True)
    with pytest.raises(ProvisioningFailed, match="is not JSON") as raised:
        controller.add(target)
    assert raised.value.extra["task"] == "Let containers outlive the Docker daemon"
    assert host.run(f"cat {SETTINGS}") == "{\n"
    host.run(f"printf '%s' '{OWN}' >{SETTINGS}; systemctl restart docker")
    pid = host.run("systemctl show -p MainPID docker")
    controller.add(target)
    assert host.run("docker info -f '{{.LiveRestoreEnabled}}'").strip() == "true"
    assert host.run("systemctl show -p MainPID docker") == pid
    assert json.loads(host.run(f"cat {SETTINGS}")) == {**json.loads(OWN), "live-restore": True}
    assert controller.add(target).changed == 0
    controller.remove(target)
    assert host.run(f"cat {SETTINGS}") == OWN
    assert host.run("systemctl show -p MainPID docker") == pid
    lab.remove(host)
