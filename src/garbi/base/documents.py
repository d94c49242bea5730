"""Things as they travel, JSON documents: made from any object that has the fields, without validating what is our own."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any, Union, get_args, get_origin, get_type_hints

from garbi.base.clock import to_wire

Convert = Callable[[Any], Any]


def document_of(kind: type, thing: object) -> dict[str, Any]:
    """What `thing` has of the fields of `kind`, a dataclass: as attributes or properties, whatever else it has."""
    return {
        name: getattr(thing, name) if convert is None else convert(getattr(thing, name))
        for name, convert in _plan(kind)
    }


def fields_of(kind: type, thing: object) -> dict[str, Any]:
    """The same fields with their values as they are, to make another thing from."""
    return {each.name: getattr(thing, each.name) for each in fields(kind)}


@cache
def _plan(kind: type) -> tuple[tuple[str, Convert | None], ...]:
    hints = get_type_hints(kind)
    return tuple((each.name, _convert(hints[each.name])) for each in fields(kind))


def _convert(hint: Any) -> Convert | None:
    """What turns a value of that type into what JSON has; None for what JSON has."""
    origin, arguments = get_origin(hint), get_args(hint)
    convert: Convert | None = None
    if hint is datetime:
        convert = to_wire
    elif origin in (Union, types.UnionType):
        convert = _unless_none(next(filter(None, map(_convert, arguments)), None))
    elif isinstance(hint, type) and is_dataclass(hint):
        convert = partial(document_of, hint)
    elif origin in (tuple, list):
        convert = _for_each(_convert(arguments[0]))
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        convert = dict
    return convert


def _unless_none(convert: Convert | None) -> Convert | None:
    return None if convert is None else lambda value: None if value is None else convert(value)


def _for_each(convert: Convert | None) -> Convert:
    return list if convert is None else lambda values: [convert(value) for value in values]
