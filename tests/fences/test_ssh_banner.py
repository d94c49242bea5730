"""A host whose kernel takes connections while its sshd gets no processor: it has longer than one that is off."""

from __future__ import annotations

import socket
import time

import pytest

from garbi.base.errors import FenceFailed
from garbi.iaas.fences import ssh
from garbi.iaas.model.node import Ssh
from garbi.iaas.provisioning.target import Target


def test_a_port_that_takes_connections_is_waited_for_and_one_that_does_not_is_given_up_soon() -> None:
    assert ssh.IMPATIENT.connect_s > ssh.KNOCK_S
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        ssh._knock(Target("n1", "127.0.0.1", 8081, Ssh(port=port), token=""))
    began = time.monotonic()
    with pytest.raises(FenceFailed, match=f"no answer on port {port}"):
        ssh._knock(Target("n1", "127.0.0.1", 8081, Ssh(port=port), token=""))
    assert time.monotonic() - began < 60
