"""Which controller a command speaks to, and as whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from garbi.base.places import default_data_dir
from garbi.terminal.identity import find_token

if TYPE_CHECKING:
    from garbi.iaas_api.client import IaasClient

DEFAULT_URL = "http://127.0.0.1:8080"
ENV_PREFIX = "GARBI_IAAS_"


def connect(context: click.Context) -> IaasClient:
    """The client for the URL and the token that the command was given; raises FinalError without the token it was promised."""
    from garbi.iaas_api.client import IaasClient

    url = url_of(context)
    return IaasClient(url, token=find_token(token_file_of(context), ENV_PREFIX, default_data_dir("iaas"), url))


def url_of(context: click.Context) -> str:
    """The URL that the command was given."""
    return str(context.find_root().params.get("url") or DEFAULT_URL)


def token_file_of(context: click.Context) -> Path | None:
    """The token file that the command was given."""
    path: Path | None = context.find_root().params.get("token_file")
    return path
