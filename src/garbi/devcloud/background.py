"""A service that answers in a thread of its own, so that several fit into one process."""

from __future__ import annotations

import threading

from garbi.web.server import Service


class Background:
    """A service that answers until it is stopped. Requests that come before its thread is ready wait for it."""

    def __init__(self, service: Service, name: str) -> None:
        self.url = service.url
        self._service = service
        self._thread = threading.Thread(target=service.run, name=f"devcloud {name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more; its port is free afterwards."""
        self._service.stop()
        self._thread.join()
