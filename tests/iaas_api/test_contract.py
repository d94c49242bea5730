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
from tests.iaas_api.conftest import LIMIT_S, SPEC, Cloud

from garbi.base import audit
from garbi.base.problem import TYPE_PREFIX, error_classes
from garbi.hyper_api import host, vocabulary
from garbi.hyper_api import schemas as host_schemas
from garbi.iaas.model import node, query
from garbi.iaas.rest.app import assemble
from garbi.iaas.rest.openapi import record
from garbi.iaas_api import cloud, events, images, machines, nodes, operations, placement, requests

PLACES = (
    machines,
    images,
    nodes,
    placement,
    operations,
    events,
    cloud,
    host,
    audit,
    vocabulary,
    requests,
    host_schemas,
)
ROOT = Path(__file__).parents[2]
DOCUMENT = assemble().openapi()
OPERATIONS = [(path, method, each) for path, item in DOCUMENT["paths"].items() for method, each in item.items()]
NAMES = [f"{method.upper()} {path}" for path, method, _ in OPERATIONS]


def test_the_recorded_contract_is_the_one_that_is_served() -> None:
    recorded = (ROOT / "docs/openapi-iaas.json").read_text()
    assert recorded == record(), "renew it: python -m garbi.iaas.rest.openapi > docs/openapi-iaas.json"


def test_every_path_of_the_contract_is_served() -> None:
    expected = {
        *("GET /iaas/nodes", "GET /iaas/nodes/{name}", "POST /iaas/nodes", "DELETE /iaas/nodes/{name}"),
        *("GET /iaas/images", "GET /iaas/images/{name}", "POST /iaas/images", "PUT /iaas/images/{name}/file"),
        *("DELETE /iaas/images/{name}", "GET /iaas/machines", "GET /iaas/machines/{id}", "POST /iaas/machines"),
        *("PUT /iaas/machines/{id}", "DELETE /iaas/machines/{id}", "POST /iaas/machines/explain"),
        *("GET /iaas/operations/{id}", "GET /iaas/events", "GET /iaas/audit", "GET /metrics"),
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


def test_the_page_names_every_path_and_no_other() -> None:
    page = (ROOT / "docs/rest-iaas.md").read_text()
    named = set(re.findall(r"^\| (GET|POST|PUT|PATCH|HEAD|DELETE) \| `([^`]+)` \|", page, re.MULTILINE))
    assert {f"{method} {path}" for method, path in named} == set(NAMES)


def test_the_pages_name_every_header_that_is_read() -> None:
    page = ((ROOT / "docs/rest-iaas.md").read_text() + (ROOT / "docs/rest.md").read_text()).lower()
    headers = {
        parameter["name"]
        for *_, each in OPERATIONS
        for parameter in each.get("parameters", [])
        if parameter["in"] == "header"
    }
    assert {"prefer", "idempotency-key", "last-event-id", "if-none-match", "upload-offset"} <= headers
    assert [header for header in headers if f"`{header}" not in page] == []


def test_what_is_not_asked_for_is_as_the_model_has_it() -> None:
    ssh, given_ssh = node.Ssh(), requests.NodeRequest(name="n1", address="h:1").ssh
    assert (given_ssh.user, given_ssh.port, given_ssh.key_file) == (ssh.user, ssh.port, ssh.key_file)


def test_every_filter_is_a_field_of_what_it_filters() -> None:
    assert set(query.NODE_FILTERS) <= {each.name for each in fields(nodes.Node)}
    assert set(query.IMAGE_FILTERS) <= {each.name for each in fields(images.Image)}
    assert set(query.MACHINE_FILTERS) <= {each.name for each in fields(machines.Machine)}
    assert set(query.OPERATION_FILTERS) <= {each.name for each in fields(operations.Operation)}


@schemathesis.serializer("application/partial-upload")
def send_as_it_is(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """A piece of content is bytes already."""
    content: bytes = getattr(value, "data", value)
    return content if isinstance(content, bytes) else str(content).encode("utf-8", "surrogatepass")


CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    not_a_server_error,
]

KNOWN_USER = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
"""Who asks is known in each request: a missing token is not what is wrong with it."""


def generated() -> Iterator[Any]:
    """Every operation that ends, with right requests; where a field can be wrong, also with wrong ones."""
    for path, method, each in OPERATIONS:
        queried = [one for one in each.get("parameters", []) if one["in"] == "query"]
        modes = list(GenerationMode) if queried or "requestBody" in each else [GenerationMode.POSITIVE]
        for mode in modes if path != "/iaas/events" else []:
            yield pytest.param(path, method, mode, id=f"{method} {path} {mode.value}")


@pytest.mark.parametrize(("path", "method", "mode"), list(generated()))
def test_generated_requests_are_answered_as_the_contract_says(
    busy_cloud: Cloud, path: str, method: str, mode: GenerationMode
) -> None:
    """Every answer is documented and of its schema, never an internal error; nothing wrong is accepted."""
    address = f"{busy_cloud.url}/openapi.json"
    document = schemathesis.openapi.from_url(address, headers=busy_cloud.identity, config=KNOWN_USER)
    operation = document[path][method.upper()]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def answer_generated(case: schemathesis.Case) -> None:
        # What is wrong with a field stays wrong.
        body = case.body if isinstance(case.body, dict) else {}
        if isinstance(body.get("image"), str) and isinstance(body.get("type"), str | None):
            body["type"] = "fake"
        if isinstance(body.get("address"), str) and isinstance(body.get("provision", True), bool):
            body["provision"] = False
        response = case.call(headers={**busy_cloud.identity, "Prefer": "wait=1"}, timeout=LIMIT_S)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400 and method != "head":
            problem = response.json()
            assert problem["type"] == TYPE_PREFIX + problem["code"]
            assert problem["status"] == response.status_code == error_classes()[problem["code"]].status

    answer_generated()


@pytest.fixture(scope="module")
def busy_cloud(still_cloud: Cloud) -> Cloud:
    """A cloud that has something to answer about."""
    still_cloud.client.machines.add({**SPEC, "id": "a"})
    still_cloud.client.images.add("a", "raw", [b"\0" * 512], 512)
    return still_cloud
