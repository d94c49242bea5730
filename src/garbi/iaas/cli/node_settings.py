"""Commands that have something of a node otherwise, and try that out: set, test-fence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from garbi.base.errors import GarbiError
from garbi.base.token import read_secret
from garbi.iaas.cli.nodes import describe, names_argument
from garbi.iaas.cli.operations import failure_lines
from garbi.iaas.cli.server import connect
from garbi.terminal.arguments import each
from garbi.terminal.output import on_terminal, plain, say

OPTION = "--fence-option"
SECRETS = ("passw", "secret", "token", "community", "priv")
"""In the name of an option: its value stays out of the list of processes."""


@click.command("set")
@click.argument("name")
@click.option(
    "--token-file",
    metavar="F",
    type=click.Path(path_type=Path),
    help="File with the token that its hyper has by now.",
)
@click.option(
    "--fence-agent", metavar="AGENT", help="Debian's fence agent that switches its host off: fence_ipmilan, …"
)
@click.option(
    OPTION,
    metavar="KEY=VALUE",
    multiple=True,
    help="What that has to be told; KEY=@FILE keeps what the file says as a secret, KEY= takes the option away; repeatable.",
)
@click.option("--no-fence-agent", is_flag=True, help="No fence agent switches its host off.")
@click.pass_context
def set_node(
    context: click.Context,
    name: str,
    token_file: Path | None,
    fence_agent: str | None,
    fence_option: tuple[str, ...],
    no_fence_agent: bool,
) -> None:
    """Have something of a node otherwise, without adding it anew."""
    fields: dict[str, Any] = {}
    if token_file is not None:
        fields["token"] = read_token(token_file)
    if no_fence_agent and (fence_agent or fence_option):
        raise click.UsageError("--no-fence-agent and the options of a fence agent exclude each other")
    if no_fence_agent:
        fields["power"] = None
    elif fence_agent or fence_option:
        fields["power"] = ({"agent": fence_agent} if fence_agent else {}) | read_options(fence_option)
    if not fields:
        raise click.UsageError("say what is to be otherwise: see iaas node set --help")
    node = connect(context).nodes.change(name, fields)
    say(describe(node) if on_terminal() else node["name"])


@click.command("test-fence")
@names_argument
@click.pass_context
def test_fence(context: click.Context, names: tuple[str, ...]) -> None:
    """Try the fence agents of nodes, without harm: their status, and whether their plugs are these nodes."""
    client = connect(context)

    def try_out(name: str) -> None:
        tried = client.nodes.test_fence(name)
        words = f"; {plain(tried.get('words'))}" if plain(tried.get("words")) else ""
        say(f"{name}: {plain(tried.get('agent'))} says {plain(tried.get('status'))}{words}")

    each(context, names, try_out, lambda error: failure_lines(error) if isinstance(error, GarbiError) else [])


def read_options(given: tuple[str, ...]) -> dict[str, dict[str, str | None]]:
    """Options of a fence agent: those of files are secrets, and what is one must come from a file."""
    options: dict[str, str | None] = {}
    secrets: dict[str, str | None] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{text[:40]!r} is not KEY=VALUE", param_hint=OPTION)
        if value.startswith("@"):
            secrets[key] = _read(Path(value[1:]))
        elif not value:
            options[key] = None
        elif any(word in key for word in SECRETS):
            words = (
                f"{key} is a secret, and this is seen in the list of processes: write it to a file, and say {key}=@FILE"
            )
            raise click.BadParameter(words, param_hint=OPTION)
        else:
            options[key] = value
    return {"options": options, "secrets": secrets}


def read_token(path: Path) -> str:
    """The token in a file that a user names."""
    try:
        return read_secret(path)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="--token-file") from None


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint=OPTION) from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{path} is no text", param_hint=OPTION) from None
