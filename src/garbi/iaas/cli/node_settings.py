"""Commands that have something of a node otherwise: set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from garbi.base.token import read_secret
from garbi.iaas.cli.nodes import describe
from garbi.iaas.cli.server import connect
from garbi.terminal.output import on_terminal, say


@click.command("set")
@click.argument("name")
@click.option(
    "--token-file",
    metavar="F",
    type=click.Path(path_type=Path),
    help="File with the token that its hyper has by now.",
)
@click.pass_context
def set_node(context: click.Context, name: str, token_file: Path | None) -> None:
    """Have something of a node otherwise, without adding it anew."""
    fields: dict[str, Any] = {}
    if token_file is not None:
        fields["token"] = read_token(token_file)
    if not fields:
        raise click.UsageError("say what is to be otherwise: see iaas node set --help")
    node = connect(context).nodes.change(name, fields)
    say(describe(node) if on_terminal() else node["name"])


def read_token(path: Path) -> str:
    """The token in a file that a user names."""
    try:
        return read_secret(path)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="--token-file") from None
