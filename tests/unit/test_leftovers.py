"""A module of tests that leaves much open fails, and is told what."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests import leftovers
from tests.leftovers import FILES, MOST, THREADS, LeftOpen, require_few, watched


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests leave open stays open."""
    monkeypatch.setattr(leftovers, "PATIENCE_S", 0.0)


def test_what_is_closed_is_no_matter(tmp_path: Path) -> None:
    with watched("a module"), ExitStack() as stack:
        for number in range(2 * FILES):
            stack.enter_context((tmp_path / f"{number}").open("w"))


def test_files_that_stay_open_are_named(tmp_path: Path) -> None:
    with ExitStack() as stack:

        def leave() -> None:
            with watched("a module"):
                for _ in range(2 * FILES):
                    stack.enter_context((tmp_path / "left").open("w"))

        with pytest.raises(LeftOpen, match=rf"a module leaves open {2 * FILES} x {tmp_path / 'left'}"):
            leave()


def test_sockets_that_stay_open_are_named_by_their_addresses() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def leave() -> None:
            with watched("a module"):
                for _ in range(2 * FILES):
                    stack.enter_context(socket.create_connection(listener.getsockname()))

        with pytest.raises(LeftOpen, match=rf"to \('127.0.0.1', {listener.getsockname()[1]}\)"):
            leave()


def test_too_many_files_are_too_many_whoever_opened_them(tmp_path: Path) -> None:
    require_few("a test")
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context((tmp_path / "left").open("w"))
        with pytest.raises(LeftOpen, match=f"a test: .* {MOST} x {tmp_path / 'left'}"):
            require_few("a test")


def test_threads_that_stay_are_named() -> None:
    ending = threading.Event()
    threads = [threading.Thread(target=ending.wait, name="left") for _ in range(2 * THREADS)]

    def leave() -> None:
        with watched("a module"):
            for thread in threads:
                thread.start()

    try:
        with pytest.raises(LeftOpen, match=f"{2 * THREADS} x left"):
            leave()
    finally:
        ending.set()
        for thread in threads:
            thread.join()
