"""What a field of a thing on the wire may be: said in the field's annotation, once, for requests, programs and documentation.

Ranges and lengths are those of `annotated_types`; a `Rule` is what these cannot say. A thing that travels is a frozen dataclass
with one of the two configurations here: `ASKED` is strict and refuses fields that it does not have, `ANSWERED` is never
validated on its way out. Who only sends and receives documents needs no validator: it is imported when a schema is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """A bound in words: `holds` tells whether a value keeps it, `takes` what is allowed, `schema` the same as JSON Schema."""

    holds: Callable[[Any], object]
    takes: str
    schema: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], Any]) -> Any:
        """Pydantic's hook: the schema of the annotated type, and this rule after it."""
        from pydantic_core import PydanticCustomError, core_schema

        def keep(value: Any) -> Any:
            if not self.holds(value):
                raise PydanticCustomError("rule", "it takes {takes}", {"takes": self.takes})
            return value

        return core_schema.no_info_after_validator_function(keep, handler(source))

    def __get_pydantic_json_schema__(self, schema: object, handler: Callable[[object], Any]) -> Any:
        """Pydantic's hook: what is documented."""
        return {**handler(schema), **self.schema}


@dataclass(frozen=True, slots=True)
class FirstWrong:
    """Of a sequence, the first wrong entry is told of alone: a long one of wrong entries costs next to nothing."""

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], Any]) -> Any:
        """Pydantic's hook: the schema of the sequence, which ends at the first error."""
        return {**handler(source), "fail_fast": True}


@dataclass(frozen=True, slots=True)
class Note:
    """What a field means, in a sentence of the documentation."""

    text: str

    def __get_pydantic_json_schema__(self, schema: object, handler: Callable[[object], Any]) -> Any:
        """Pydantic's hook: what is documented."""
        return {**handler(schema), "description": self.text}


def need_all(schema: dict[str, Any]) -> None:
    """An answer always has each of its fields, also those that a request may leave out."""
    schema["required"] = list(schema["properties"])


ASKED: Mapping[str, Any] = {
    "extra": "forbid",
    "strict": True,
    "revalidate_instances": "always",
}
"""For what is asked for: exactly these fields, exactly these types (no `"512"` for 512)."""

ANSWERED: Mapping[str, Any] = {"json_schema_extra": need_all}
"""For what is answered."""


def asked(*examples: Mapping[str, Any]) -> Mapping[str, Any]:
    """`ASKED`, documented with examples."""
    return {**ASKED, "json_schema_extra": {"examples": list(examples)}}


def answered(*examples: Mapping[str, Any]) -> Mapping[str, Any]:
    """`ANSWERED`, documented with examples."""

    def describe(schema: dict[str, Any]) -> None:
        need_all(schema)
        schema["examples"] = list(examples)

    return {**ANSWERED, "json_schema_extra": describe}
