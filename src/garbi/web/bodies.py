"""What a request sends or a program gives, read as a thing of the wire; whatever is wrong with it is an error with the field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Generic, TypeVar

from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from garbi.base.errors import GarbiError, InvalidField, MalformedRequest
from garbi.web.problems import from_validation

T = TypeVar("T")
REFERENCE = "#/components/schemas/{model}"


class Body(Generic[T]):
    """A dependency: the JSON body of a request as a `kind`. Raises MalformedRequest, InvalidField."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        adapter(kind)  # now, while modules are loaded: not in a request

    async def __call__(self, request: Request) -> T:
        text = await request.body()
        if not text:
            raise InvalidField("body", "the body must be a JSON object", allowed="a JSON object")
        return _validated(self.kind, text)


def read(kind: type[T], given: Mapping[str, Any]) -> T:
    """What a program gave as a mapping, by the names of the wire; raises InvalidField, which names the field."""
    try:
        return _validated(kind, json.dumps(given, default=_plain))
    except (MalformedRequest, TypeError, ValueError) as error:
        raise InvalidField("body", f"this cannot be written as JSON: {error}", allowed="what JSON has") from None


def check(thing: object) -> None:
    """Raise InvalidField, which names the field and what is allowed, when a program made a thing that could not be asked for."""
    try:
        adapter(type(thing)).validate_python(thing)
    except ValidationError as error:
        raise _refusal(error) from None


def describe_bodies(app: FastAPI, document: dict[str, Any]) -> None:
    """Add to an OpenAPI document what the routes read by `Body`, which FastAPI does not know."""
    schemas = document["components"]["schemas"]
    for route in app.routes:
        if not isinstance(route, APIRoute):
            continue
        for body in _bodies(route.dependant):
            schema = adapter(body.kind).json_schema(ref_template=REFERENCE)
            schemas |= schema.pop("$defs", {}) | {body.kind.__name__: schema}
            reference = {"$ref": REFERENCE.format(model=body.kind.__name__)}
            content = {"content": {"application/json": {"schema": reference}}, "required": True}
            for method in route.methods or ():
                document["paths"][route.path][method.lower()]["requestBody"] = content


def adapter(kind: type) -> TypeAdapter[Any]:
    """The validator of a kind, made once."""
    return _adapter(kind)


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _validated(kind: type[T], text: str | bytes) -> T:
    try:
        thing: T = adapter(kind).validate_json(text)
    except ValidationError as error:
        raise _refusal(error) from None
    return thing


def _refusal(error: ValidationError) -> GarbiError:
    return from_validation([{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)])


def _bodies(dependant: Dependant) -> Iterator[Body[Any]]:
    for each in dependant.dependencies:
        if isinstance(each.call, Body):
            yield each.call
        yield from _bodies(each)


def _plain(value: object) -> Any:
    slots = getattr(value, "__dataclass_fields__", None)
    if slots is None:
        raise TypeError(f"{type(value).__name__} is no value of JSON")
    return {name: getattr(value, name) for name in slots}
