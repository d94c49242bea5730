"""The kernel's own watchdog: a device (hardware, or softdog) that resets the host once nobody has fed it for a while.

A host that is frozen as a whole cannot end its machines; this ends the host, within the length of its lease. Used only where an
operator named the device, and opened only once a lease is armed: from then on the host is reset when the watchdog of Garbi no
longer works, or when a lease has ended and its machines do not.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Callable
from typing import Protocol

from garbi.base.errors import FinalError, GarbiError

log = logging.getLogger(__name__)

SHORTEST_S = 10
"""A shorter time would reset a host for a look that took long."""

MAGIC = b"V"
"""Written last, it tells the device that it is closed in order."""

GETSUPPORT, KEEPALIVE, SETTIMEOUT = 0x80285700, 0x80045705, 0xC0045706
"""The requests WDIOC_GETSUPPORT, WDIOC_KEEPALIVE and WDIOC_SETTIMEOUT of linux/watchdog.h."""

CAN_SET_TIMEOUT, CAN_CLOSE, ONLY_ALARMS = 0x0080, 0x0100, 0x0400
"""The bits WDIOF_SETTIMEOUT, WDIOF_MAGICCLOSE and WDIOF_ALARMONLY of a device's options."""

_SUPPORT = struct.Struct("=II32s")
_NUMBER = struct.Struct("=i")


class WatchdogDevice(Protocol):
    """A device that is open, as the kernel offers it: `ioctl` fills in its argument, all raise OSError."""

    def ioctl(self, request: int, argument: bytearray) -> None: ...
    def write(self, content: bytes) -> None: ...
    def close(self) -> None: ...


class DeviceFile:
    """The device at a path of this host. That it is opened starts it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def ioctl(self, request: int, argument: bytearray) -> None:
        """Ask the kernel."""
        fcntl.ioctl(self._file, request, argument)

    def write(self, content: bytes) -> None:
        """Write to the device, which feeds it."""
        os.write(self._file, content)

    def close(self) -> None:
        """Close it; unless the magic character was written last, it goes on."""
        os.close(self._file)


class KernelWatchdog:
    """One device, that is open while leases are armed. For one thread."""

    def __init__(self, path: str, opening: Callable[[str], WatchdogDevice] = DeviceFile) -> None:
        self._path = path
        self._opening = opening
        self._device: WatchdogDevice | None = None
        self._timeout_s = 0
        self._said = ""

    def follow(self, ttl_s: float | None, alive: bool) -> None:
        """Do what follows from the leases of this moment. Never raises; what is in the way is said once.

        `ttl_s` is the length of the shortest armed lease, None where none is armed: then the device is closed in order. It is fed
        while they are `alive`.
        """
        try:
            if ttl_s is None:
                self.close()
            elif alive:
                self._feed(ttl_s)
            self._said = ""
        except (GarbiError, OSError) as error:
            words = error.detail if isinstance(error, GarbiError) else f"{self._path}: {error.strerror}"
            if words != self._said:
                log.error("the kernel's watchdog does not guard this host", extra={"detail": words})
            self._said = words

    def close(self) -> None:
        """Have the device reset nothing any more; raises OSError."""
        device, self._device, self._timeout_s = self._device, None, 0
        if device is not None:
            try:
                device.write(MAGIC)
            finally:
                device.close()

    def _feed(self, ttl_s: float) -> None:
        if self._device is None:
            self._device = self._open(int(ttl_s))
        if int(ttl_s) != self._timeout_s:
            self._set_timeout(self._device, int(ttl_s))
        self._device.ioctl(KEEPALIVE, bytearray(_NUMBER.size))

    def _open(self, ttl_s: int) -> WatchdogDevice:
        """The device, counting; raises FinalError, and leaves it closed, where it cannot do what is needed of it."""
        if ttl_s < SHORTEST_S:
            raise FinalError(
                f"{self._path} is not opened for a lease of {ttl_s} s: it takes one of {SHORTEST_S} s or more"
            )
        device = self._opening(self._path)
        try:
            identity, options = _support(device, self._path)
            if options & ONLY_ALARMS or not options & CAN_SET_TIMEOUT or not options & CAN_CLOSE:
                raise FinalError(
                    f"{self._path} ({identity}) cannot be used: it must reset the host, let its timeout be set and be closed"
                )
            self._set_timeout(device, ttl_s)
        except BaseException:
            try:
                device.write(MAGIC)
            finally:
                device.close()
            raise
        log.warning("the kernel's watchdog guards this host", extra={"device": self._path, "detail": identity})
        return device

    def _set_timeout(self, device: WatchdogDevice, ttl_s: int) -> None:
        """Raises FinalError where the device makes the time longer than the lease: it would fire too late."""
        argument = bytearray(_NUMBER.pack(max(ttl_s, SHORTEST_S)))
        device.ioctl(SETTIMEOUT, argument)
        (given,) = _NUMBER.unpack(argument)
        if given > ttl_s:
            raise FinalError(
                f"{self._path} resets this host after {given} s at the earliest, and the lease has {ttl_s} s"
            )
        self._timeout_s = ttl_s


def _support(device: WatchdogDevice, path: str) -> tuple[str, int]:
    """What a device calls itself, and its options; raises FinalError where it is no watchdog."""
    argument = bytearray(_SUPPORT.size)
    try:
        device.ioctl(GETSUPPORT, argument)
    except OSError as error:
        raise FinalError(f"{path} is no watchdog of the kernel: {error.strerror}") from error
    options, _, identity = _SUPPORT.unpack(argument)
    return identity.rstrip(b"\0").decode(errors="replace"), options
