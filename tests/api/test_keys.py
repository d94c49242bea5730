"""`Idempotency-Key`: a request that comes again is answered with what there is by then, and changes nothing."""

from __future__ import annotations

from tests.api.conftest import StartServer

SPEC = {"image": "any", "type": "fake", "id": "web", "restart": "no"}
PATIENT = {"Idempotency-Key": "k1", "Prefer": "wait=60"}
AWAY = {"Idempotency-Key": "k1", "Prefer": "respond-async"}


def test_a_create_that_failed_is_there_however_often_it_is_asked_for_again(start_server: StartServer) -> None:
    server = start_server({"faults": "prepare:1:image-rejected"})
    server.ask("POST", "/hyper/machines", SPEC, AWAY)
    failed = server.ask("GET", "/hyper/machines/web", headers={"Prefer": "wait=60"}).json()
    assert failed["state"] == "failed"
    for headers in (PATIENT, AWAY):
        again = server.ask("POST", "/hyper/machines", SPEC, headers)
        assert (again.status, again.json()) == (201, failed)
    assert server.ask("GET", "/hyper/machines").json() == [failed]


def test_what_is_gone_by_then_is_not_said_to_be_there(start_server: StartServer) -> None:
    server = start_server({"remove_delay_s": "1"})
    server.ask("POST", "/hyper/machines", SPEC, PATIENT)
    assert server.ask("DELETE", "/hyper/machines/web", headers=AWAY).status == 202
    again = server.ask("POST", "/hyper/machines", SPEC, PATIENT)
    assert (again.status, again.json()["code"]) == (404, "not-found")
    assert server.ask("POST", "/hyper/machines", SPEC, PATIENT).status == 404
    assert server.ask("GET", "/hyper/machines").json() == []
