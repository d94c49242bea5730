"""What commands take, in every program of Garbi: ids, filters, pairs, ports; and one thing done with each of several."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import click

from garbi.base.errors import GarbiError
from garbi.terminal.output import Command, Document, complain
from garbi.terminal.program import is_away

_PORT = re.compile(r"([0-9]{1,5}):([0-9]{1,5})(?:/(tcp|udp))?\Z")


def ids_argument(command: Command) -> Command:
    """Give a command one or more ids."""
    return click.argument("ids", metavar="ID...", nargs=-1, required=True)(command)


def no_wait_option(command: Command) -> Command:
    """Give a command `--no-wait`."""
    return click.option("--no-wait", is_flag=True, help="Return at once; do not wait for the result.")(command)


def filters_argument(command: Command) -> Command:
    """Give a command field=value filters."""
    return click.argument("filters", metavar="[FIELD=VALUE]...", nargs=-1)(command)


def read_port(text: str, shape: str = "hostPort:machinePort[/udp]") -> Document:
    """A port as `-p` takes it; `shape` is how its help writes it."""
    match = _PORT.match(text)
    if match is None or not all(1 <= int(number) <= 65535 for number in match.group(1, 2)):
        raise click.BadParameter(f"{text!r} is not {shape}", param_hint="-p")
    host, machine, protocol = match.groups()
    return {"node_port": int(host), "machine_port": int(machine), "protocol": protocol or "tcp"}


def read_pair(text: str, hint: str) -> tuple[str, str]:
    """A KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text!r} is not key=value", param_hint=hint)
    return key, value


def read_filters(texts: Iterable[str]) -> dict[str, str]:
    """The filters of a list command."""
    return dict(read_pair(text, "FIELD=VALUE") for text in texts)


def sentence(error: GarbiError) -> list[str]:
    """An error as it is told unless there is more to say."""
    return [error.detail]


def each(
    context: click.Context,
    ids: Iterable[str],
    do: Callable[[str], None],
    words: Callable[[GarbiError], list[str]] = sentence,
) -> None:
    """Do something with every id; an error with one does not keep the others from it, but from success."""
    failed = False
    for id in ids:
        try:
            do(id)
        except GarbiError as error:
            if is_away(error):
                raise
            complain(*words(error))
            failed = True
    if failed:
        context.exit(1)
