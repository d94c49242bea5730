"""RFC 9457 problem details: how an error looks on the wire, both ways."""

from __future__ import annotations

from typing import Any

from garbi.base import errors
from garbi.base.errors import GarbiError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:garbi:error:"


def error_classes() -> dict[str, type[GarbiError]]:
    """Every concrete error by its code."""
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, GarbiError)]
    return {cls.code: cls for cls in found if "code" in vars(cls)}


def to_problem(error: GarbiError) -> dict[str, Any]:
    """The members of the problem document for an error (RFC 9457 section 3); `extra` members come last."""
    return {
        "type": TYPE_PREFIX + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        **error.extra,
    }


def from_problem(document: dict[str, Any], status: int) -> GarbiError:
    """The error that a problem document describes; a plain GarbiError where the code is not known here."""
    cls = error_classes().get(str(document.get("code")), GarbiError)
    standard = {"type", "title", "status", "detail", "code"}
    error = cls.__new__(cls)
    GarbiError.__init__(
        error,
        str(document.get("detail") or document.get("title") or f"the server answered {status}"),
        **{key: value for key, value in document.items() if key not in standard},
    )
    return error
