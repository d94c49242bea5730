"""Commands about kept disks: kept ls, rm."""

from __future__ import annotations

import click

from garbi.hyper.cli.server import connect
from garbi.terminal.arguments import each, filters_argument, read_filters
from garbi.terminal.output import (
    Column,
    Document,
    Format,
    field,
    on_terminal,
    output_option,
    plain,
    quiet_option,
    say,
    show_list,
    size_text,
)

UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def _left(disk: Document) -> str:
    """The time that it stays, for people in the largest unit of which there is one."""
    seconds = int(disk["left_s"])
    if not on_terminal():
        return str(seconds)
    name, unit = next(((name, unit) for name, unit in UNITS if seconds >= unit), UNITS[-1])
    return f"{seconds // unit} {name}"


COLUMNS = (
    Column("name", field("name")),
    Column("machine", field("machine_id")),
    Column("type", field("type")),
    Column("size", lambda disk: size_text(disk["size"]) if on_terminal() else plain(disk["size"])),
    Column("left", _left),
    Column("place", field("place")),
    Column("kept", field("kept_at")),
)


@click.group("kept")
def commands() -> None:
    """The disks that outlive their machines."""


@commands.command("ls")
@filters_argument
@output_option
@quiet_option
@click.pass_context
def list_kept(context: click.Context, filters: tuple[str, ...], output: Format, quiet: bool) -> None:
    """List kept disks; `hyper kept ls machine_id=web` lists those of one machine."""
    show_list(connect(context).kept.list(read_filters(filters)), COLUMNS, "name", output, quiet)


@commands.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_context
def remove_kept(context: click.Context, names: tuple[str, ...]) -> None:
    """Delete kept disks for good, before their time is over."""
    client = connect(context)

    def remove(name: str) -> None:
        client.kept.remove(name)
        say(f"{name} is deleted" if on_terminal() else name)

    each(context, names, remove)
