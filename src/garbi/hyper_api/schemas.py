"""Requests and answers that are not yet said once (`garbi.base.bounds`): what is left of them, for servers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Asked(BaseModel):
    """A request: exactly these fields, exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """Problem details, RFC 9457; some errors have further members, such as `field` and `allowed`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:garbi:error:port-taken",
                    "title": "Port taken",
                    "status": 409,
                    "detail": "port 8080/tcp belongs to machine web",
                    "code": "port-taken",
                    "field": "ports",
                    "holder": "machine web",
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="stable: programs decide by it")
