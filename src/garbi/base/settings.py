"""Settings as frozen dataclasses: each field with its meaning, read from an environment variable; for both services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from garbi.base.errors import InvalidField

NUMBERS = "tuple[float, ...]"
"""A list of numbers, divided by commas."""


def setting(default: Any, meaning: str) -> Any:
    """A field of a settings class; a `default` that can be called is called for each instance."""
    metadata = {"meaning": meaning}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def read_settings(
    kind: type[Any], prefix: str, environment: Mapping[str, str], without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The values that an environment has for the fields of `kind`; raises InvalidField, which names the variable."""
    values: dict[str, Any] = {}
    for each in fields(kind):
        variable = prefix + each.name.upper()
        if each.name not in without and variable in environment:
            values[each.name] = parse_setting(variable, environment[variable], str(each.type))
    return values


def parse_setting(variable: str, text: str, kind: str) -> Any:
    """The value that a text stands for; `kind` is the name of a type: `int`, `float`, `Path`, `str` or a list of numbers."""
    if kind == NUMBERS:
        return tuple(parse_setting(variable, part.strip(), "float") for part in text.split(",") if part.strip())
    convert = {"int": int, "float": float, "Path": Path, "str": str}[kind]
    try:
        value = convert(text)
    except ValueError:
        raise InvalidField(variable, f"{variable} takes a number, not {text!r}") from None
    if isinstance(value, int | float) and not 0 <= value < float("inf"):
        raise InvalidField(variable, f"{variable} takes a number that is not negative, not {text!r}")
    return value
