"""The contract as a document: what is recorded is what is served, and what is served keeps to it under generated requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from pydantic import TypeAdapter
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from tests.api.conftest import LIMIT_S, Server

from garbi.base import audit
from garbi.base.problem import TYPE_PREFIX, error_classes
from garbi.hyper.model import query
from garbi.hyper.rest.app import assemble
from garbi.hyper.rest.openapi import record
from garbi.hyper_api import events, host, images, kept, leases, machines, schemas, vocabulary

PLACES = (machines, images, kept, events, host, audit, vocabulary, schemas, leases)
ROOT = Path(__file__).parents[2]
DOCUMENT = assemble().openapi()
OPERATIONS = [(path, method, each) for path, item in DOCUMENT["paths"].items() for method, each in item.items()]
NAMES = [f"{method.upper()} {path}" for path, method, _ in OPERATIONS]


def test_the_recorded_contract_is_the_one_that_is_served() -> None:
    recorded = (ROOT / "docs/openapi-hyper.json").read_text()
    assert recorded == record(), "renew it: python -m garbi.hyper.rest.openapi > docs/openapi-hyper.json"


def test_every_path_of_the_contract_is_served() -> None:
    expected = {
        "GET /hyper/drivers",
        "GET /hyper/machines",
        "POST /hyper/machines",
        "GET /hyper/machines/{id}",
        "PUT /hyper/machines/{id}",
        "DELETE /hyper/machines/{id}",
        "GET /hyper/images",
        "PUT /hyper/images/{name}",
        "DELETE /hyper/images/{name}",
        "GET /hyper/host",
        "GET /hyper/events",
        "GET /hyper/health",
        "GET /metrics",
    }
    assert expected <= set(NAMES)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=NAMES)
def test_every_operation_explains_itself_and_its_errors(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["description"].endswith(".")
    for status, response in operation["responses"].items():
        if status < "400" or "/Health" in json.dumps(response):
            continue
        examples = response["content"]["application/problem+json"]["examples"]
        for code, example in examples.items():
            assert example["value"]["code"] == code
            assert str(error_classes()[code].status) == status


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_every_example_is_what_its_schema_says(name: str) -> None:
    model = next(getattr(where, name) for where in PLACES if hasattr(where, name))
    for example in DOCUMENT["components"]["schemas"][name].get("examples", []):
        TypeAdapter(model).validate_json(json.dumps(example))


def test_every_error_has_a_page_entry_and_is_described_by_its_status() -> None:
    page = (ROOT / "docs/rest.md").read_text() + (ROOT / "docs/errors.md").read_text()
    assert [code for code in error_classes() if f"`{code}`" not in page] == []


def test_the_page_names_every_path_and_no_other() -> None:
    page = (ROOT / "docs/rest.md").read_text()
    named = set(re.findall(r"^\| (GET|HEAD|POST|PUT|PATCH|DELETE) \| `([^`]+)` \|", page, re.MULTILINE))
    assert {f"{method} {path}" for method, path in named} == set(NAMES)


def test_the_page_names_every_header_that_is_read() -> None:
    page = (ROOT / "docs/rest.md").read_text()
    headers = {
        parameter["name"]
        for *_, each in OPERATIONS
        for parameter in each.get("parameters", [])
        if parameter["in"] == "header"
    }
    assert {"prefer", "idempotency-key", "last-event-id", "content-digest"} <= headers
    assert [header for header in headers if f"`{header}`" not in page.lower()] == []


def test_every_filter_is_a_field_of_what_it_filters() -> None:
    assert set(query.MACHINE_FILTERS) <= {each.name for each in fields(machines.Machine)}
    assert set(query.IMAGE_FILTERS) <= {each.name for each in fields(images.Image)}


CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    not_a_server_error,
]


KNOWN_USER = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
"""Who asks is known in each request: a missing token is not what is wrong with it."""

schemathesis.serializer.alias("application/partial-upload", "application/octet-stream")


def generated() -> Iterator[Any]:
    """Every operation that ends, with right requests; where a field can be wrong, also with wrong ones."""
    for path, method, each in OPERATIONS:
        queried = [one for one in each.get("parameters", []) if one["in"] == "query"]
        modes = list(GenerationMode) if queried or "requestBody" in each else [GenerationMode.POSITIVE]
        for mode in modes if path != "/hyper/events" else []:
            yield pytest.param(path, method, mode, id=f"{method} {path} {mode.value}")


@pytest.mark.parametrize(("path", "method", "mode"), list(generated()))
def test_generated_requests_are_answered_as_the_contract_says(
    busy_server: Server, path: str, method: str, mode: GenerationMode
) -> None:
    """Every answer is documented and of its schema, never an internal error; nothing wrong is accepted."""
    address = f"{busy_server.url}/openapi.json"
    document = schemathesis.openapi.from_url(address, headers=busy_server.identity, config=KNOWN_USER)
    operation = document[path][method.upper()]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def answer_generated(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("image"), str):
            case.body["type"] = "fake"
        response = case.call(headers={**busy_server.identity, "Prefer": "wait=5"}, timeout=LIMIT_S)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400 and method != "head":
            problem = response.json()
            assert problem["type"] == TYPE_PREFIX + problem["code"]
            assert problem["status"] == response.status_code == error_classes()[problem["code"]].status

    answer_generated()


@pytest.fixture(scope="module")
def busy_server(still_server: Server) -> Server:
    """A server that has something to answer about."""
    still_server.client.machines.add({"image": "any", "type": "fake", "id": "a"})
    return still_server
