"""A disk that answers with errors of input and output, real ones: most of it is gone while it is in use."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.leases.hanging import lose_most, mounted_disk
from tests.leases.processes import HYPER, LIMIT_S, Processes, arm, machine, processes, renew
from tests.leases.words import eventually

from garbi.base.errors import StorageFailed

pytestmark = pytest.mark.root


@pytest.fixture
def disk(data_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """The file that is the disk of the data directory."""
    with mounted_disk(data_dir, tmp_path / "disk"):
        yield tmp_path / "disk"


@pytest.fixture
def running(data_dir: Path, disk: Path) -> Iterator[Processes]:
    with processes(data_dir) as running:
        yield running


def test_a_disk_with_errors_is_told_as_failed_and_the_lease_goes_on(running: Processes, disk: Path) -> None:
    running.watch()
    _, client = running.serve()
    client.machines.add(machine("first", labels={}))
    last = arm(client)
    lose_most(disk)
    with pytest.raises(StorageFailed):
        client.machines.add(machine("web", labels={}))

    def said() -> bool:
        nonlocal last
        last = renew(client, last)
        assert (last["armed"], last["active"]) == (True, True)
        return bool(last["unwritable"])

    eventually("the controller is told", said)
    doctor = subprocess.run(
        [HYPER, "doctor", "--data-dir", str(running.data_dir)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    told = next(line for line in doctor.stdout.splitlines() if line.startswith("disk\t"))
    assert "\tfail\t" in told
    assert "cannot be written" in told or "read-only" in told
