"""What is answered: things of the wire as JSON, which are our own and so are not validated on their way out."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import Response
from fastapi.responses import JSONResponse

from garbi.base.documents import document_of


def respond(kind: type, thing: object, prepared: Response | None = None, status: int | None = None) -> Response:
    """The fields of `kind` that a thing has, with the headers and, unless another is given, the status of a prepared response."""
    return _respond(document_of(kind, thing), prepared, status)


def respond_list(kind: type, things: Iterable[object], prepared: Response | None = None) -> Response:
    """The same of many things."""
    return _respond([document_of(kind, thing) for thing in things], prepared, None)


def _respond(content: object, prepared: Response | None, status: int | None) -> Response:
    given = (
        None if prepared is None else prepared.status_code
    )  # None, in spite of its type, where no endpoint has set it
    headers = None if prepared is None else dict(prepared.headers)
    return JSONResponse(content, status_code=status or given or 200, headers=headers)
