"""Tells the agent what changes, from libvirt's own lifecycle events; finds its way back when the connection breaks."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import libvirt

from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.libvirt.connection import Connection, is_alive
from garbi.hyper.drivers.protocol import Notify

_log = logging.getLogger(__name__)

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
_CHECK_S = 30.0


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """Something happened to a domain of ours: libvirt's numbers of event and detail."""

    machine_id: str
    event: int
    detail: int


class Watcher:
    """Reports changes to `notify`: a machine's id for an event, None when events may have been missed.

    `recognise` says which machine a domain is; `heed` sees each event before the agent does; `attached` is called with
    each new connection.
    """

    def __init__(
        self,
        connection: Connection,
        recognise: Callable[[Any], str | None],
        notify: Notify,
        heed: Callable[[LifecycleEvent], None],
        attached: Callable[[Any], None],
    ) -> None:
        self._connection = connection
        self._recognise = recognise
        self._notify = notify
        self._heed = heed
        self._attached = attached
        self._closing = threading.Event()
        self._source: Any = None
        self._registration: int | None = None
        self._thread = threading.Thread(target=self._run, name="libvirt-watch", daemon=True)

    def start(self) -> None:
        """Report from now on; when libvirt does not answer, as soon as it does."""
        with contextlib.suppress(DriverUnavailable, libvirt.libvirtError):
            self._attach()
        self._thread.start()

    def close(self) -> None:
        """Report nothing more."""
        self._closing.set()
        self._connection.lost.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._detach()

    def report(self, machine_id: str | None) -> None:
        """Pass a change on, unless closed; a listener's own mistake must not end the reports."""
        if self._closing.is_set():
            return
        try:
            self._notify(machine_id)
        except Exception:
            _log.exception("the listener to libvirt's events failed")

    def _run(self) -> None:
        pause = SHORTEST_PAUSE_S
        while not self._closing.is_set():
            if is_alive(self._source):
                self._connection.lost.wait(_CHECK_S)
                self._connection.lost.clear()
                continue
            try:
                self._attach()
            except (DriverUnavailable, libvirt.libvirtError):
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                continue
            pause = SHORTEST_PAUSE_S
            self.report(None)

    def _attach(self) -> None:
        live = self._connection.get()
        self._detach()
        kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
        self._registration = live.domainEventRegisterAny(None, kind, self._on_lifecycle, None)
        self._source = live
        self._attached(live)

    def _detach(self) -> None:
        source, self._source = self._source, None
        if self._registration is not None and is_alive(source):
            with contextlib.suppress(libvirt.libvirtError):
                source.domainEventDeregisterAny(self._registration)

    def _on_lifecycle(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
        machine_id = self._recognise(domain)
        if machine_id is None:
            return
        self._heed(LifecycleEvent(machine_id, event, detail))
        self.report(machine_id)
