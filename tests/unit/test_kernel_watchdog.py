"""The kernel's watchdog: opened, fed and closed as the leases say. The device is pretended; real files are refused."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from garbi.base.checks import CheckStatus
from garbi.hyper.host.check import DoctorSettings
from garbi.hyper.leases import doctor
from garbi.hyper.watchdog.kernel import (
    CAN_CLOSE,
    CAN_SET_TIMEOUT,
    GETSUPPORT,
    KEEPALIVE,
    ONLY_ALARMS,
    SETTIMEOUT,
    KernelWatchdog,
)

ALL = CAN_SET_TIMEOUT | CAN_CLOSE


@dataclass
class Pretended:
    """A device as the kernel's documentation describes one: it counts from its opening, until it is closed after a V."""

    options: int = ALL
    shortest_s: int = 1
    now: float = 0.0
    timeout_s: int = 60
    fed_at: float | None = None
    is_open: bool = False
    last: bytes = b""
    opened: int = 0
    refused: list[int] = field(default_factory=list)

    def open(self, path: str) -> Pretended:
        assert path == "/dev/watchdog0"
        assert not self.is_open, "the kernel lets nobody open it twice"
        self.is_open, self.opened, self.last = True, self.opened + 1, b""
        self.fed_at = self.now
        return self

    def ioctl(self, request: int, argument: bytearray) -> None:
        assert self.is_open
        if request == GETSUPPORT:
            struct.pack_into("=II32s", argument, 0, self.options, 1, b"Pretended")
        elif request == SETTIMEOUT:
            self.timeout_s = max(struct.unpack("=i", argument)[0], self.shortest_s)
            struct.pack_into("=i", argument, 0, self.timeout_s)
            self.fed_at = self.now
        else:
            assert request == KEEPALIVE
            self.fed_at = self.now

    def write(self, content: bytes) -> None:
        self.last, self.fed_at = content, self.now

    def close(self) -> None:
        self.is_open = False
        if self.last == b"V":
            self.fed_at = None

    @property
    def resets(self) -> bool:
        return self.fed_at is not None and self.now - self.fed_at > self.timeout_s


@pytest.fixture
def device() -> Pretended:
    return Pretended()


@pytest.fixture
def kernel(device: Pretended) -> KernelWatchdog:
    return KernelWatchdog("/dev/watchdog0", device.open)


def test_it_is_opened_with_the_first_armed_lease_and_closed_in_order_with_the_last(
    kernel: KernelWatchdog, device: Pretended
) -> None:
    kernel.follow(None, alive=True)
    assert device.opened == 0
    kernel.follow(45.0, alive=True)
    assert (device.is_open, device.timeout_s) == (True, 45)
    kernel.follow(20.5, alive=True)
    assert device.timeout_s == 20
    kernel.follow(None, alive=True)
    device.now += 1000
    assert (device.is_open, device.resets) == (False, False)
    kernel.follow(45.0, alive=True)
    assert (device.opened, device.timeout_s) == (2, 45)


def test_a_host_whose_watchdog_stands_still_is_reset_within_the_lease(
    kernel: KernelWatchdog, device: Pretended
) -> None:
    for _ in range(100):
        kernel.follow(45.0, alive=True)
        device.now += 1
        assert not device.resets
    device.now += 45
    assert device.resets


def test_one_where_a_lease_has_ended_and_its_machines_have_not_is_reset_too(
    kernel: KernelWatchdog, device: Pretended
) -> None:
    kernel.follow(45.0, alive=True)
    for _ in range(46):
        kernel.follow(45.0, alive=False)
        device.now += 1
    assert device.resets


def test_a_device_is_not_opened_for_a_lease_that_has_ended_already(kernel: KernelWatchdog, device: Pretended) -> None:
    kernel.follow(45.0, alive=False)
    assert device.opened == 0


@pytest.mark.parametrize(
    ("unfit", "ttl_s", "words"),
    [
        (Pretended(options=CAN_CLOSE), 45.0, "let its timeout be set"),
        (Pretended(options=CAN_SET_TIMEOUT), 45.0, "be closed"),
        (Pretended(options=ALL | ONLY_ALARMS), 45.0, "reset the host"),
        (Pretended(shortest_s=60), 45.0, "after 60 s at the earliest, and the lease has 45 s"),
        (Pretended(), 5.0, "one of 10 s or more"),
    ],
)
def test_a_device_that_cannot_do_it_is_left_stopped_and_that_is_said_once(
    unfit: Pretended, ttl_s: float, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = KernelWatchdog("/dev/watchdog0", unfit.open)
    for _ in range(3):
        kernel.follow(ttl_s, alive=True)
    unfit.now += 1000
    assert (unfit.is_open, unfit.resets) == (False, False)
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1
    assert words in said[0].__dict__["detail"]


@pytest.mark.parametrize(("path", "words"), [("/dev/null", "is no watchdog"), ("/dev/none-such", "No such file")])
def test_what_is_no_watchdog_of_the_kernel_is_named(path: str, words: str, caplog: pytest.LogCaptureFixture) -> None:
    KernelWatchdog(path).follow(45.0, alive=True)
    [said] = caplog.records
    assert words in said.__dict__["detail"]
    assert path in said.__dict__["detail"]


def test_the_doctor_says_what_there_is_and_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> tuple[CheckStatus, str] | None:
        finding = doctor.check_kernel_watchdog(DoctorSettings())
        return None if finding is None else (finding.status, finding.found)

    monkeypatch.setattr(doctor, "DEVICES", tmp_path)
    monkeypatch.delenv(doctor.VARIABLE, raising=False)
    assert found() is None
    monkeypatch.setenv(doctor.VARIABLE, "/dev/watchdog")
    none = found()
    assert none is not None
    assert none[0] is CheckStatus.FAIL
    (tmp_path / "watchdog0").mkdir()
    (tmp_path / "watchdog0" / "identity").write_text("iTCO_wdt\n")
    used = found()
    assert used is not None
    assert (used[0], "iTCO_wdt" in used[1]) == (CheckStatus.OK, True)
    (tmp_path / "watchdog0" / "nowayout").write_text("1\n")
    stubborn = found()
    assert stubborn is not None
    assert stubborn[0] is CheckStatus.WARN
    monkeypatch.delenv(doctor.VARIABLE)
    unused = found()
    assert unused is not None
    assert (unused[0], doctor.VARIABLE in unused[1]) == (CheckStatus.OK, True)
