"""/iaas/operations over HTTP: progress is waited for, not polled."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.iaas_api.conftest import SPEC, Cloud, eventually

from garbi.base.errors import NotFound
from garbi.iaas_api.client import etag_of


def test_an_operation_is_looked_at_until_it_has_finished(empty_cloud: Cloud) -> None:
    empty_cloud.add_node("n1", {"add_delay_s": "1"})
    machine = empty_cloud.client.machines.add({**SPEC, "id": "web"}, wait_s=0)
    path = f"/iaas/operations/{machine['operation']}"
    done = empty_cloud.ask("GET", path, headers={"Prefer": "wait=60"})
    assert (done.json()["state"], done.json()["progress"], done.json()["error"]) == ("done", 1.0, None)
    assert done.json()["finished_at"] is not None
    assert done.headers["preference-applied"] == "wait=60"
    assert done.headers["etag"] == etag_of(done.json())


def test_what_is_known_already_is_not_sent_again(cloud: Cloud) -> None:
    machine = cloud.client.machines.add(SPEC)
    path = f"/iaas/operations/{machine['operation']}"
    etag = cloud.ask("GET", path, headers={"Prefer": "wait=60"}).headers["etag"]
    for known in (etag, f'W/{etag}, "x"', f'"2020-01-01T00:00:00.000000Z", {etag}'):
        same = cloud.ask("GET", path, headers={"If-None-Match": known, "Prefer": "wait=60"})
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", etag)


@pytest.mark.parametrize(
    "known", ["*x", '"', '"nonsense"', '"T-:Z."', "", "\u00e9", '"2020-01-01T00:00:00.000000Z"' * 999]
)
def test_a_tag_that_is_none_of_ours_matches_nothing(cloud: Cloud, known: str) -> None:
    machine = cloud.client.machines.add(SPEC)
    headers = {"If-None-Match": known}
    assert cloud.ask("GET", f"/iaas/operations/{machine['operation']}", headers=headers).status == 200


def test_a_wait_for_a_change_ends_with_it(empty_cloud: Cloud) -> None:
    empty_cloud.add_node("n1", {"add_delay_s": "3600"})
    machine = empty_cloud.client.machines.add({**SPEC, "id": "web"}, wait_s=0)
    operation: dict[str, Any] = {}

    def is_quiet() -> bool:
        operation.update(empty_cloud.client.operations.get(machine["operation"]) or {})
        return empty_cloud.client.operations.get(machine["operation"], 1, etag_of(operation)) is None

    eventually(is_quiet, "nothing changes while the node takes its time")
    answers: list[dict[str, Any] | None] = []
    waiting = threading.Thread(
        target=lambda: answers.append(empty_cloud.client.operations.get(machine["operation"], 600, etag_of(operation)))
    )
    waiting.start()
    empty_cloud.client.machines.remove("web", wait_s=0)
    waiting.join(120)
    assert answers
    assert answers[0] is not None
    assert answers[0]["updated_at"] > operation["updated_at"]


def test_an_operation_is_followed_to_its_end(empty_cloud: Cloud) -> None:
    cloud = empty_cloud
    host = cloud.start_host("n1")
    seen = list(cloud.client.operations.follow(cloud.client.nodes.add(host.request)["operation"]))
    assert seen[-1]["state"] == "done"
    assert [each["state"] for each in seen[:-1]] == ["running"] * (len(seen) - 1)
    assert [each["progress"] for each in seen] == sorted(each["progress"] for each in seen)
    assert len({each["updated_at"] for each in seen}) == len(seen)
    with pytest.raises(NotFound):
        next(cloud.client.operations.follow("nothing"))


def test_who_follows_sees_at_once_how_far_an_operation_is(empty_cloud: Cloud) -> None:
    empty_cloud.add_node("n1", {"add_delay_s": "3600"})
    machine = empty_cloud.client.machines.add({**SPEC, "id": "web"}, wait_s=0)
    assert next(empty_cloud.client.operations.follow(machine["operation"]))["state"] == "running"
    empty_cloud.client.machines.remove("web", wait_s=0)


def test_operations_are_listed_filtered_and_paged(cloud: Cloud) -> None:
    cloud.client.machines.add({**SPEC, "id": "listed"})
    cloud.client.machines.wish("listed", "stopped")
    found = cloud.client.operations.list({"target": "listed"})
    assert [each["kind"] for each in found] == ["machine-add", "machine-wish"]
    assert cloud.client.operations.list({"target": "listed", "kind": "machine-wish"}) == found[1:]
    page = cloud.ask("GET", f"/iaas/operations?target=listed&limit=1&marker={found[0]['id']}")
    assert [each["id"] for each in page.json()] == [found[1]["id"]]
    assert f"marker={found[1]['id']}" in page.headers["link"]
