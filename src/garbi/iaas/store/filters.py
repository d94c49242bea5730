"""Equality on fields, as a condition on a table: one rule for every list."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy import BigInteger, Boolean, ColumnElement, Integer, Table

from garbi.base.errors import InvalidField

_NUMBER = re.compile(r"-?[0-9]{1,18}\Z")
_BOOLEAN = {"true": True, "false": False}


def matching(table: Table, filters: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """The conditions that the filters make; raises InvalidField when a number is asked for by what is none."""
    conditions: list[ColumnElement[bool]] = []
    for name, value in filters.items():
        column = table.c[name]
        if isinstance(column.type, Integer | BigInteger):
            if not _NUMBER.match(value):
                raise InvalidField(name, f"filter {name} takes a whole number, not {value[:80]!r}")
            conditions.append(column == int(value))
        elif isinstance(column.type, Boolean):
            if value not in _BOOLEAN:
                raise InvalidField(name, f"filter {name} takes true or false, not {value[:80]!r}", list(_BOOLEAN))
            conditions.append(column.is_(_BOOLEAN[value]))
        else:
            conditions.append(column == value)
    return conditions
