"""How every failure of a request is answered: problem details (RFC 9457), and nothing internal in them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from garbi.base.errors import (
    ContentTooLarge,
    GarbiError,
    InvalidField,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    OffsetMismatch,
    RefusedRequest,
    TemporaryError,
    Unauthenticated,
    UnsupportedMedia,
)
from garbi.base.names import shown
from garbi.base.problem import MEDIA_TYPE, TYPE_PREFIX, to_problem

RETRY_AFTER_S = 5
MAX_ERRORS = 20
MAX_SHOWN = 80

RULES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of a sensible size",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_type": "text",
    "string_unicode": "text in Unicode",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "too_long": "at most {max_length} entries",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "list_type": "a list",
    "tuple_type": "a list",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than": "more than {gt}",
    "dict_type": "an object",
    "mapping_type": "an object",
    "dataclass_type": "an object",
    "rule": "{takes}",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
"""What a field takes, by the validator's kind of error."""

WRONG = {
    "missing": "{field} is missing",
    "extra_forbidden": "no field is called {field}",
    "unexpected_keyword_argument": "no field is called {field}",
}

log = logging.getLogger(__name__)


def answer(error: GarbiError, headers: Mapping[str, str] | None = None) -> Response:
    """The response for an error."""
    sent = dict(headers or {})
    if isinstance(error, TemporaryError):
        sent.setdefault("Retry-After", str(RETRY_AFTER_S))
    if isinstance(error, OffsetMismatch):
        sent.setdefault("Upload-Offset", str(error.extra["expected_offset"]))
    if isinstance(error, Unauthenticated):
        sent.setdefault("WWW-Authenticate", "Bearer")
    return JSONResponse(to_problem(error), status_code=error.status, headers=sent, media_type=MEDIA_TYPE)


def documented(*classes: type[GarbiError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses for the errors that an endpoint raises, each status once with its codes."""
    by_status: dict[int, list[type[GarbiError]]] = {}
    everywhere: tuple[type[GarbiError], ...] = (Unauthenticated, RefusedRequest, GarbiError)
    for cls in (*classes, *everywhere):
        by_status.setdefault(cls.status, []).append(cls)
    return {status: _documented_status(status, group) for status, group in sorted(by_status.items())}


def _documented_status(status: int, group: Sequence[type[GarbiError]]) -> dict[str, Any]:
    examples = {cls.code: {"value": _documented_problem(cls)} for cls in group}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}
    return {"description": " or ".join(f"`{cls.code}`" for cls in group), "content": content}


def _documented_problem(cls: type[GarbiError]) -> dict[str, Any]:
    document = {"title": cls.title, "status": cls.status, "detail": cls.title, "code": cls.code}
    return {"type": TYPE_PREFIX + cls.code, **document}


def install(app: FastAPI) -> None:
    """Answer with problem details whatever the framework or the agent raises."""
    app.add_exception_handler(GarbiError, _on_garbi_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_garbi_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, GarbiError) or error.code == GarbiError.code:
        return answer(unexpected(request.scope, error))
    return answer(error)


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    return answer(from_validation(error.errors()))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    return answer(_from_http(request, error), error.headers)


def from_validation(found: Sequence[Any]) -> GarbiError:
    """The error for what a validator found: the first one, with all of them in `errors` when there are several."""
    first = _explain(found[0])
    if len(found) > 1 and isinstance(first, InvalidField):
        each = [_explain(one) for one in found[:MAX_ERRORS]]
        first.extra["errors"] = [{"field": one.extra.get("field"), "detail": one.detail} for one in each]
    return first


def _explain(found: Mapping[str, Any]) -> GarbiError:
    kind, location, context = found["type"], found["loc"], found.get("ctx") or {}
    path = ".".join(str(part) for part in location[1:])
    if kind == "json_invalid":
        place = f", at character {path}" if path else ""
        return MalformedRequest(f"the body is not JSON: {context.get('error', 'it ends early')}{place}")
    if not path:
        return InvalidField("body", "the body must be a JSON object", allowed="a JSON object")
    field = path if len(path) <= MAX_SHOWN else path[: MAX_SHOWN - 1] + "…"
    if kind in WRONG:
        return InvalidField(field, WRONG[kind].format(field=field))
    allowed = RULES.get(kind, "").format(**context)
    if not allowed:
        return InvalidField(field, f"{field} is not allowed: {found['msg']}")
    if kind == "rule" and isinstance(found["input"], str):
        return InvalidField(
            field, f"{field} {shown(found['input'])} is not allowed: it takes {allowed}", allowed=allowed
        )
    return InvalidField(field, f"{field} takes {allowed}", allowed=allowed)


def _from_http(request: Request, error: HTTPException) -> GarbiError:
    path = request.url.path[:MAX_SHOWN]
    by_status: dict[int, GarbiError] = {
        400: MalformedRequest("the body cannot be read as JSON"),
        404: NotFound(f"there is nothing at {path}"),
        405: MethodNotAllowed(f"{path} does not take {request.method}"),
        413: ContentTooLarge("the body is too large"),
        415: UnsupportedMedia("the body is of a media type that is not read here"),
    }
    return by_status.get(error.status_code) or MalformedRequest("the request cannot be answered")


def unexpected(scope: Scope, error: BaseException) -> GarbiError:
    """Log an unexpected exception under a new correlation id; the error returned tells the client only that id."""
    correlation_id = uuid.uuid4().hex
    fields = {"correlation_id": correlation_id, "method": scope["method"], "path": scope["path"]}
    log.error("unexpected", extra=fields, exc_info=error)
    detail = f"something went wrong inside the service; its log says more under {correlation_id}"
    return GarbiError(detail, correlation_id=correlation_id)


class LastResort:
    """ASGI: turn what nobody caught into a problem document, unless the answer has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:  # the last place where anything can be said about it
            problem = unexpected(scope, error)
            if started:
                raise
            await answer(problem)(scope, receive, send)
