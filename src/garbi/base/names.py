"""Which names and ids are allowed: one rule, for every place that takes one."""

from __future__ import annotations

import re

from garbi.base.errors import InvalidField

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
IMAGE_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z")
RULE = "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"
IMAGE_RULE = "1 to 63 of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit"


def check_name(field: str, value: str) -> str:
    """Return `value` if it is allowed as an id or name; raise InvalidField naming `field` otherwise."""
    if not NAME.match(value):
        raise InvalidField(field, f"{field} {shown(value)} is not allowed: it takes {RULE}", allowed=RULE)
    return value


def check_image_name(field: str, value: str) -> str:
    """Return `value` if it is allowed as the name of an image; raise InvalidField naming `field` otherwise."""
    if not IMAGE_NAME.match(value) or ".." in value:
        raise InvalidField(field, f"{field} {shown(value)} is not allowed: it takes {IMAGE_RULE}", allowed=IMAGE_RULE)
    return value


def shown(value: str) -> str:
    """A text as an error quotes it: not all of a long one."""
    return repr(value if len(value) <= 80 else value[:77] + "...")
