"""A machine that is asked to end while it still boots does not hear it the first time."""

from __future__ import annotations

import pytest
from tests.host.agent.host_agent import PATIENCE_S, VM, TinyImages, host_agent

from garbi.hyper.model.machine import State, Wish


@pytest.mark.libvirt
@pytest.mark.docker
@pytest.mark.root
def test_a_virtual_machine_stopped_while_it_boots_ends_long_before_it_would_be_powered_off(images: TinyImages) -> None:
    with host_agent(images, limits={"stop_deadline_s": 10 * PATIENCE_S}) as host:
        host.run("booting", VM)
        machine = host.wish("booting", Wish.STOPPED)
        assert (machine.state, machine.reason) == (State.STOPPED, "")
        host.remove("booting")
