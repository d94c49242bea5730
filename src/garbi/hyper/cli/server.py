"""Which server a command speaks to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from garbi.hyper_api.client import HyperClient

DEFAULT_URL = "http://127.0.0.1:8081"


def connect(context: click.Context) -> HyperClient:
    """The client for the URL that the command was given."""
    from garbi.hyper_api.client import HyperClient

    return HyperClient(url_of(context))


def url_of(context: click.Context) -> str:
    """The URL that the command was given."""
    return str(context.find_root().params.get("url") or DEFAULT_URL)
