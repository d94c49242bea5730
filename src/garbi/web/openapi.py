"""The contract of a service as OpenAPI, with our errors instead of the framework's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from garbi.hyper_api.schemas import Problem
from garbi.web.bodies import describe_bodies

OWN_SCHEMAS = ("HTTPValidationError", "ValidationError")
"""What FastAPI adds for its own error format, which is not used here."""


def describer(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """A replacement for `app.openapi`: the framework's document with our errors instead of its own."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    return describe


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    describe_bodies(app, document)
    for name in OWN_SCHEMAS:
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    for item in document["paths"].values():
        for operation in item.values():
            _drop_own_errors(operation["responses"])
    return document


def _drop_own_errors(responses: dict[str, Any]) -> None:
    for status, response in list(responses.items()):
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        if str(schema.get("$ref", "")).endswith("/HTTPValidationError"):
            del responses[status]
