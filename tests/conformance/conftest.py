"""Every test of the suite runs once per subject, on a cluster of its own that is gone afterwards, whatever happened."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.conformance.bench import Bench
from tests.conformance.needs import is_of_use
from tests.conformance.subjects import SUBJECTS, Subject, make_subject

from garbi.hyper.drivers.protocol import Driver

MARKS = {
    "docker": [pytest.mark.docker],
    "libvirt-qemu": [pytest.mark.libvirt, pytest.mark.root],
    "libvirt-test": [pytest.mark.libvirt],
}


@pytest.fixture(scope="session", params=[pytest.param(name, marks=MARKS.get(name, [])) for name in SUBJECTS])
def subject_and_work_dir(request: pytest.FixtureRequest) -> Iterator[tuple[Subject, Path]]:
    """The driver under test; a missing library or daemon is a failure, not a skip."""
    work_dir = open_directory()
    with ExitStack() as last:
        last.callback(shutil.rmtree, work_dir)
        subject = make_subject(request.param, work_dir)
        last.callback(subject.close)
        yield subject, work_dir


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker of this suite known."""
    config.addinivalue_line(
        "markers", "needs(*what): abilities of the driver, or traits of the subject, that it is about"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, per subject, the tests of what its driver's class has not got."""
    left_out = [item for item in items if not is_of_use(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture
def bench(subject_and_work_dir: tuple[Subject, Path]) -> Iterator[Bench]:
    """A cluster of the test's own."""
    subject, work_dir = subject_and_work_dir
    data_dir = open_directory()
    with ExitStack() as last:
        last.callback(shutil.rmtree, data_dir)
        bench = Bench(subject, work_dir, secrets.token_hex(16), data_dir)
        last.callback(bench.close)
        yield bench


@pytest.fixture
def driver(bench: Bench) -> Driver:
    """The driver under test, with the image prepared."""
    return bench.driver()


def open_directory() -> Path:
    """A directory that other users may pass through, as QEMU's must; pytest's own are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="garbi-conformance-"))
    path.chmod(0o711)
    return path
