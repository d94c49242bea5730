"""The connection of one driver to libvirt: opened when needed, kept alive, replaced when it breaks, for all its threads.

Turns libvirt's errors into ours. Starts libvirt's event loop, one thread for the whole process, before the first connection.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from urllib.parse import urlsplit

import libvirt

from garbi.base.errors import DriverFailed, DriverUnavailable, GarbiError, NoSpace

ANSWER_WITHIN_S = 15.0
KEEPALIVE_S, KEEPALIVE_MISSES = 5, 2

_LOST_DOMAINS = (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)
_NO_SPACE = ("No space left on device", "Disk quota exceeded")

_loop_lock = threading.Lock()
_pinned: dict[str, Any] = {}  # the world of a test: URI lives as long as one connection to it is open


class Connection:
    """One libvirt URI. `lost` is set whenever a connection broke, or this object was closed."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            parts = urlsplit(uri)
        except ValueError:  # libvirt will say what is wrong with it
            parts = urlsplit("")
        self.hypervisor, _, transport = parts.scheme.partition("+")
        self.local = not parts.netloc and transport in ("", "unix")
        self.system = self.hypervisor == "qemu" and self.local and parts.path == "/system"
        self.lost = threading.Event()
        self._lock = threading.Lock()
        self._closed = False
        self._live: Any = None
        self._opening: Future[Any] | None = None

    def get(self) -> Any:
        """A connection that is alive; raises DriverUnavailable when libvirt does not answer in time."""
        opening, joined = self._opening_now()
        try:
            with contextlib.suppress(*(libvirt.libvirtError,) if joined else ()):
                return opening.result(ANSWER_WITHIN_S)
            return self._opening_now()[0].result(ANSWER_WITHIN_S)  # what began before this call says nothing about now
        except libvirt.libvirtError as error:
            raise DriverUnavailable(f"libvirt at {self.uri} does not answer: {error.get_error_message()}") from error
        except TimeoutError:
            raise DriverUnavailable(f"libvirt at {self.uri} does not answer") from None

    def is_broken(self, error: libvirt.libvirtError) -> bool:
        """Whether the error is not an answer of libvirt's, but the lack of one."""
        live = self._live
        return error.get_error_domain() in _LOST_DOMAINS or (live is not None and not is_alive(live))

    def translate(self, error: libvirt.libvirtError) -> GarbiError:
        """Our error for libvirt's, with its own words."""
        words = error.get_error_message() or str(error)
        if self.is_broken(error):
            return DriverUnavailable(f"libvirt at {self.uri} does not answer: {words}")
        if error.get_int1() == errno.ENOSPC or any(text in words for text in _NO_SPACE):
            return NoSpace(f"libvirt: {words}")
        return DriverFailed(f"libvirt: {words}")

    def close(self) -> None:
        """Let go of libvirt for good."""
        with self._lock:
            self._closed = True
            live, self._live = self._live, None
        self.lost.set()
        _release(live)

    def _opening_now(self) -> tuple[Future[Any], bool]:
        """The connection that is alive or being opened, by whomever, and whether it was begun before this call."""
        with self._lock:
            if self._closed:
                raise DriverUnavailable("the driver is closed")
            if is_alive(self._live):
                return _done(self._live), False
            if self._opening is not None:
                return self._opening, True
            self._opening = Future()
            thread = threading.Thread(target=self._open, args=(self._opening,), name="libvirt-open", daemon=True)
            thread.start()
            return self._opening, False

    def _open(self, opening: Future[Any]) -> None:
        try:
            live = _open(self.uri)
            with contextlib.suppress(libvirt.libvirtError):  # the mock has no keepalive
                live.setKeepAlive(KEEPALIVE_S, KEEPALIVE_MISSES)
            live.registerCloseCallback(self._note_loss, None)
        except Exception as error:  # whatever it is, the threads that wait must learn of it
            with self._lock:
                self._opening = None
            opening.set_exception(error)
            return
        with self._lock:
            former, self._live, self._opening = self._live, live, None
            closed = self._closed
        _release(former)
        if closed:
            _release(live)
        opening.set_result(live)

    def _note_loss(self, _connection: Any, _reason: int, _opaque: Any) -> None:
        self.lost.set()


class Connected(Protocol):
    """What `verb` needs of a driver."""

    @property
    def connection(self) -> Connection: ...


D = TypeVar("D", bound=Connected)
P = ParamSpec("P")
R = TypeVar("R")


def verb(method: Callable[Concatenate[D, P], R]) -> Callable[Concatenate[D, P], R]:
    """Turn libvirt's errors into ours; when the connection broke, try once more, for every verb may be repeated."""

    @functools.wraps(method)
    def run(driver: D, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(driver, *args, **kwargs)
        except libvirt.libvirtError as error:
            if not driver.connection.is_broken(error):
                raise driver.connection.translate(error) from error
        try:
            return method(driver, *args, **kwargs)
        except libvirt.libvirtError as error:
            raise driver.connection.translate(error) from error

    return run


def is_alive(connection: Any) -> bool:
    """Whether a connection still leads to libvirt; one that was closed, by whomever, does not."""
    if connection is None:
        return False
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:  # it was closed meanwhile: its successor was opened by another thread
        return False


def found(look_up: Callable[[], Any], *codes: int) -> Any | None:
    """What `look_up` returns; None when libvirt says that there is none, by one of these error codes."""
    try:
        return look_up()
    except libvirt.libvirtError as error:
        if error.get_error_code() in codes:
            return None
        raise


def _done(connection: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(connection)
    return future


def _open(uri: str) -> Any:
    _start_event_loop()
    connection = libvirt.open(uri)
    if uri.startswith("test:"):
        _pinned.setdefault(uri, connection)
    return connection


@functools.cache
def _event_loop() -> threading.Thread:
    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # libvirt would write to stderr
    libvirt.virEventRegisterDefaultImpl()
    thread = threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True)
    thread.start()
    return thread


def _start_event_loop() -> None:
    with _loop_lock:
        _event_loop()


def _run_event_loop() -> None:
    while True:
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.virEventRunDefaultImpl()


def _release(connection: Any) -> None:
    if connection is None:
        return
    with contextlib.suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
    if connection not in _pinned.values():
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()
