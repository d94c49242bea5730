"""Things as rows: each field of a dataclass in the column of its name, moments and members of enumerations as text."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sqlalchemy import Row

from garbi.base.clock import from_wire, to_wire

T = TypeVar("T")
Convert = Callable[[Any], Any]


def thing_of(kind: type[T], row: Row[Any], **given: Any) -> T:
    """The thing that a row has, but for the fields `given`."""
    values = row._mapping
    read = {
        name: values[name] if convert is None else convert(values[name])
        for name, convert in _plan(kind)
        if name not in given
    }
    return kind(**read, **given)


def row_of(kind: type, thing: object, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The columns of a thing, but for the fields that other tables have."""
    return {each.name: _column(getattr(thing, each.name)) for each in fields(kind) if each.name not in leave_out}


def _column(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_wire(value)
    return dict(value) if isinstance(value, Mapping) else value


def _plan(kind: type) -> tuple[tuple[str, Convert | None], ...]:
    return _cached_plan(kind)


@cache
def _cached_plan(kind: type) -> tuple[tuple[str, Convert | None], ...]:
    hints = get_type_hints(kind)
    return tuple((each.name, _reader(hints[each.name])) for each in fields(kind))


def _reader(hint: Any) -> Convert | None:
    """What makes a value of that type from a column; None for what a column has as it is."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        read = next(filter(None, map(_reader, arguments)), None)
        return None if read is None else lambda value: None if value is None else read(value)
    if hint is datetime:
        return from_wire
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict
    return hint if isinstance(hint, type) and issubclass(hint, Enum) else None
