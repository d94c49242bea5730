"""/hyper/events: every change of a machine, in order, none lost, and no client that costs the others anything."""

from __future__ import annotations

import itertools
import time
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.api.conftest import LIMIT_S, Server, StartServer

from garbi.web.places import MAX_STREAMS


class Stream:
    """One open event stream."""

    def __init__(self, server: Server, query: str = "", last_event_id: str = "") -> None:
        self._connection = HTTPConnection(urlsplit(server.url).netloc, timeout=LIMIT_S)
        headers = server.identity | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        self._connection.request("GET", f"/hyper/events{query}", headers=headers)
        self.answer = self._connection.getresponse()
        self.text = ""

    def until(self, text: str) -> str:
        """Read on until a text came; return all that came so far."""
        deadline = time.monotonic() + LIMIT_S
        while text not in self.text:
            assert time.monotonic() < deadline, f"no {text!r} in time: {self.text}"
            received = self.answer.read1()
            assert received, f"the stream ended without {text!r}: {self.text}"
            self.text += received.decode()
        return self.text

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def states(events: list[dict[str, Any]]) -> list[str]:
    return [event["state"] for event in events]


def test_every_change_of_a_machine_is_told_in_order(server: Server, web: dict[str, Any]) -> None:
    server.client.machines.wish("web", "stopped")
    server.client.machines.remove("web")
    told = list(itertools.takewhile(lambda event: event["kind"] != "removed", server.client.events(after=0)))
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert {event["machine_id"] for event in told} == {"web"}
    assert states(told)[0] == "pending"
    assert [state for state, _ in itertools.groupby(states(told))][-3:] == ["stopping", "stopped", "removing"]


def test_a_stream_has_ids_and_names_and_begins_now(server: Server, web: dict[str, Any]) -> None:
    stream = Stream(server)
    stream.until(": events after")
    server.client.machines.wish("web", "stopped")
    text = stream.until('"state":"stopped"')
    stream.close()
    assert stream.answer.headers["content-type"].startswith("text/event-stream")
    assert '"state":"pending"' not in text
    assert "\nid: " in text
    assert "\nevent: state\n" in text


def test_a_stream_resumes_where_it_was_left(server: Server, web: dict[str, Any]) -> None:
    first = next(server.client.events(after=0))
    second = next(server.client.events(after=first["seq"]))
    assert second["seq"] == first["seq"] + 1


def test_a_stream_of_another_database_begins_now(server: Server, web: dict[str, Any]) -> None:
    stream = Stream(server, last_event_id="999999")
    stream.until(": events after")
    server.client.machines.remove("web")
    stream.until("event: removed")
    stream.close()


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "9" * 40])
def test_a_number_that_is_none_is_refused(still_server: Server, number: str) -> None:
    refused = still_server.ask("GET", "/hyper/events", headers={"Last-Event-ID": number})
    assert (refused.status, refused.json()["field"]) == (422, "Last-Event-ID")


def test_a_stream_of_one_machine_tells_of_no_other(server: Server, web: dict[str, Any]) -> None:
    stream = Stream(server, "?machine_id=other")
    stream.until(": events after")
    server.client.machines.wish("web", "stopped")
    server.client.machines.add({"image": "any", "type": "fake", "id": "other"})
    text = stream.until('"state":"running"')
    stream.close()
    assert '"machine_id":"other"' in text
    assert '"machine_id":"web"' not in text


def test_a_silent_stream_says_that_it_is_alive(start_server: StartServer) -> None:
    stream = Stream(start_server(keep_alive_s=0.2))
    stream.until(": still here\n\n: still here\n\n")
    stream.close()


def test_a_client_that_reads_nothing_disturbs_nobody(server: Server) -> None:
    deaf = Stream(server, last_event_id="0")
    for _ in range(5):
        server.client.machines.add({"image": "any", "type": "fake", "id": "web"})
        server.client.machines.remove("web")
    stream = Stream(server, last_event_id="0")
    text = stream.until("event: removed")
    assert text.count("event: created") >= 1
    stream.close()
    deaf.close()


def test_there_is_an_end_to_the_number_of_streams_and_places_come_free(server: Server) -> None:
    streams = [Stream(server) for _ in range(MAX_STREAMS)]
    for stream in streams:
        stream.until(": events after")
    refused = server.ask("GET", "/hyper/events")
    assert (refused.status, refused.json()["code"]) == (503, "busy")
    assert int(refused.headers["retry-after"]) > 0
    for stream in streams:
        stream.close()
    await_status(server, 200)


def await_status(server: Server, status: int) -> None:
    """Open streams until one is answered with that status; the limit is that of the whole test."""
    found = 0
    while found != status:
        stream = Stream(server)
        found = stream.answer.status
        stream.close()


def test_a_server_that_ends_ends_its_streams(start_server: StartServer) -> None:
    """The fixture requires the server to end in time while the stream is open."""
    stream = Stream(start_server())
    stream.until(": events after")
