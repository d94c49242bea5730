"""The example power programs, as an administrator would use them."""

from __future__ import annotations

import secrets
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fences.nodes import a_node

from garbi.base.errors import FenceFailed
from garbi.iaas.fences.power import PowerFence
from garbi.iaas.fences.protocol import Proof

EXAMPLES = Path(__file__).parents[2] / "docs/examples/power"
LIBVIRT = EXAMPLES / "libvirt-host"
DOMAIN = (
    "<domain type='qemu'><name>{}</name><memory unit='MiB'>16</memory><os><type arch='x86_64'>hvm</type></os></domain>"
)
VIRSH = ["virsh", "-q", "-c", "qemu:///system"]


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[str]:
    """A guest that stands for a host."""
    name = f"garbi-power-{secrets.token_hex(4)}"
    (tmp_path / "domain.xml").write_text(DOMAIN.format(name))
    try:
        subprocess.run([*VIRSH, "define", tmp_path / "domain.xml"], check=True)
        subprocess.run([*VIRSH, "start", name], check=True)
        yield name
    finally:
        subprocess.run([*VIRSH, "destroy", name], check=False, capture_output=True)
        subprocess.run([*VIRSH, "undefine", name], check=False, capture_output=True)


@pytest.mark.root
@pytest.mark.libvirt
def test_a_host_that_is_a_libvirt_guest_is_switched_off_by_the_example(domain: str) -> None:
    fence, node = PowerFence(str(LIBVIRT)), a_node(name=domain)
    assert fence.ask(node, threading.Event()) == "on"
    assert isinstance(fence.prove(node, threading.Event()), Proof)
    state = subprocess.run([*VIRSH, "domstate", domain], check=True, capture_output=True, text=True).stdout.strip()
    assert state == "shut off"
    assert fence.ask(node, threading.Event()) == "off"


@pytest.mark.root
@pytest.mark.libvirt
def test_a_guest_that_libvirt_does_not_know_proves_nothing() -> None:
    with pytest.raises(FenceFailed, match="Domain not found"):
        PowerFence(str(LIBVIRT)).prove(a_node(name="garbi-power-none"), threading.Event())


@pytest.mark.parametrize("example", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_every_example_is_a_program_with_its_use_at_the_top(example: Path) -> None:
    assert example.stat().st_mode & 0o111
    compile(example.read_text(), str(example), "exec")
    assert f"{example.name} off|status NODE HOST" in example.read_text().split('"""')[1]
