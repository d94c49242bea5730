"""Lists, one manner for all: `field=value` filters, `limit`, `marker`; a query field that is not known is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request, Response

from garbi.base.errors import InvalidField, UnknownFilter
from garbi.base.filters import check_filters, shown

MAX_LIMIT = 1000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list was asked for."""

    filters: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    marker: str | None = None


def takes(*names: str) -> Callable[[Request], Any]:
    """A dependency that refuses every query field but these."""

    async def check(request: Request) -> None:
        check_query(request, names)

    return check


def check_query(request: Request, allowed: Sequence[str]) -> dict[str, str]:
    """The query fields of a request; raises UnknownFilter for one that is not allowed, or is given twice."""
    asked: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in asked:
            raise UnknownFilter(f"query field {name!r} is given twice", field=name)
        asked[name] = value
    if asked and not allowed:
        raise UnknownFilter(f"no query field is taken here, such as {min(asked)[:80]!r}", field=min(asked)[:80])
    check_filters(asked, allowed)
    return asked


def read_list(request: Request, filters: Sequence[str]) -> Asked:
    """What a list was asked for; raises UnknownFilter, or InvalidField for a limit that is none."""
    asked = check_query(request, (*filters, "limit", "marker"))
    limit, marker = asked.pop("limit", None), asked.pop("marker", None)
    return Asked(asked, _read_limit(limit), marker)


def _read_limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT and len(text) < 9):
        rule = f"a whole number from 1 to {MAX_LIMIT}"
        raise InvalidField("limit", f"limit takes {rule}", allowed=rule)
    return int(text)


def select(things: Sequence[T], asked: Asked, key: str) -> list[T]:
    """The things whose fields equal the filters, in pages; `key` is the field that markers name."""
    if asked.marker is not None:
        keys = [getattr(thing, key) for thing in things]
        if asked.marker not in keys:
            raise InvalidField("marker", f"marker {asked.marker[:80]!r} is not in the list")
        things = things[keys.index(asked.marker) + 1 :]
    found = [thing for thing in things if _matches(thing, asked.filters)]
    return found[: asked.limit]


def link_next(request: Request, response: Response, asked: Asked, found: Sequence[Any], key: str) -> None:
    """Point to the next page (RFC 8288) when this one is full."""
    if asked.limit is not None and len(found) == asked.limit:
        url = request.url.include_query_params(marker=getattr(found[-1], key))
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'


def _matches(thing: object, filters: dict[str, str]) -> bool:
    return all(shown(getattr(thing, name)) == value for name, value in filters.items())


def parameters(filters: Sequence[str], paged: bool = True) -> dict[str, Any]:
    """The query fields of a list, for OpenAPI."""
    declared = [declare(name, {"type": "string"}, "equality; several filters are AND") for name in filters]
    if not paged:
        return {"parameters": declared}
    declared.append(declare("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}, "at most so many"))
    declared.append(declare("marker", {"type": "string"}, "only those after this one"))
    return {"parameters": declared}


def declare(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """A query field, for OpenAPI."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
