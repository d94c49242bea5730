"""Which server a command speaks to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from garbi.base.places import default_data_dir
from garbi.terminal.identity import find_token

if TYPE_CHECKING:
    from garbi.hyper_api.client import HyperClient

DEFAULT_URL = "http://127.0.0.1:8081"
ENV_PREFIX = "GARBI_HYPER_"


def connect(context: click.Context) -> HyperClient:
    """The client for the URL and the token that the command was given; raises FinalError without the token it was promised."""
    from garbi.hyper_api.client import HyperClient

    url = url_of(context)
    return HyperClient(url, token=find_token(token_file_of(context), ENV_PREFIX, default_data_dir("hyper"), url))


def url_of(context: click.Context) -> str:
    """The URL that the command was given."""
    return str(context.find_root().params.get("url") or DEFAULT_URL)


def token_file_of(context: click.Context) -> Path | None:
    """The token file that the command was given."""
    path: Path | None = context.find_root().params.get("token_file")
    return path
