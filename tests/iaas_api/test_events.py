"""/iaas/events: everything that happens in the cloud, in order, none lost."""

from __future__ import annotations

import itertools
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from tests.iaas_api.conftest import LIMIT_S, SPEC, Cloud, StartCloud

from garbi.web.places import MAX_STREAMS


class Stream:
    """One open event stream."""

    def __init__(self, cloud: Cloud, query: str = "", last_event_id: str = "") -> None:
        self._connection = HTTPConnection(urlsplit(cloud.url).netloc, timeout=LIMIT_S)
        headers = cloud.identity | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        self._connection.request("GET", f"/iaas/events{query}", headers=headers)
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


def test_all_that_happens_is_told_in_order_and_by_whom(cloud: Cloud) -> None:
    cloud.client.machines.add({**SPEC, "id": "told"})
    cloud.client.machines.remove("told")
    told = list(
        itertools.takewhile(lambda event: (event["id"], event["kind"]) != ("told", "removed"), cloud.client.events(0))
    )
    assert [event["seq"] for event in told] == sorted(event["seq"] for event in told)
    subjects = {(event["subject"], event["id"]) for event in told}
    assert {("node", "n1"), ("machine", "told")} <= subjects
    states = [event["state"] for event in told if event["id"] == "told"]
    assert "running" in states
    actors = {event["actor"] for event in told}
    assert {"user", "node:n1"} <= actors


def test_a_stream_begins_now_and_has_ids_and_names(cloud: Cloud) -> None:
    cloud.client.machines.add({**SPEC, "id": "before"})
    stream = Stream(cloud, "?subject=machine&id=web")
    stream.until(": events after")
    cloud.client.machines.add({**SPEC, "id": "web"})
    text = stream.until('"state":"running"')
    stream.close()
    assert stream.answer.headers["content-type"].startswith("text/event-stream")
    assert '"id":"before"' not in text
    assert '"subject":"node"' not in text
    assert "\nid: " in text
    assert "\nevent: created\n" in text


def test_a_stream_resumes_where_it_was_left(cloud: Cloud) -> None:
    first = next(cloud.client.events(after=0))
    second = next(cloud.client.events(after=first["seq"]))
    assert second["seq"] > first["seq"]


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "9" * 40])
def test_a_number_that_is_none_is_refused(still_cloud: Cloud, number: str) -> None:
    refused = still_cloud.ask("GET", "/iaas/events", headers={"Last-Event-ID": number})
    assert (refused.status, refused.json()["field"]) == (422, "Last-Event-ID")


def test_a_silent_stream_says_that_it_is_alive(start_cloud: StartCloud) -> None:
    stream = Stream(start_cloud(keep_alive_s=0.2))
    stream.until(": still here\n\n: still here\n\n")
    stream.close()


def test_there_is_an_end_to_the_number_of_streams(empty_cloud: Cloud) -> None:
    streams = [Stream(empty_cloud) for _ in range(MAX_STREAMS)]
    for stream in streams:
        stream.until(": events after")
    refused = empty_cloud.ask("GET", "/iaas/events")
    assert (refused.status, refused.json()["code"]) == (503, "busy")
    for stream in streams:
        stream.close()


def test_a_server_that_ends_ends_its_streams(start_cloud: StartCloud) -> None:
    """The fixture requires the server to end in time while the stream is open."""
    stream = Stream(start_cloud())
    stream.until(": events after")
