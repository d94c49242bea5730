"""The command that tells what would follow if a node died: what-if."""

from __future__ import annotations

import click

from garbi.iaas.cli.server import connect
from garbi.terminal.output import (
    Column,
    Document,
    Format,
    complain,
    field,
    output_option,
    plain,
    show_data,
    show_list,
)


def _seconds(fence: Document) -> str:
    seconds = fence.get("within_s")
    return f"{seconds:.0f} s" if isinstance(seconds, int | float) else ""


MACHINES = (
    Column("machine", field("id")),
    Column("fate", field("fate")),
    Column("to", field("to")),
    Column("why", field("why")),
)
VERDICTS = (
    Column("machine", field("machine")),
    Column("node", field("node")),
    Column("why not there", field("reason")),
)
FENCES = (
    Column("fence", field("fence")),
    Column("applies", field("applies")),
    Column("covers", field("covers")),
    Column("within", _seconds),
    Column("why not", field("why"), rare=True),
)


@click.command("what-if")
@click.argument("name")
@output_option
@click.pass_context
def what_if(context: click.Context, name: str, output: Format) -> None:
    """Tell what would follow if a node died now: its machines, and the fences that could prove it; changes nothing."""
    found = connect(context).nodes.what_if(name)
    if output != "table":
        show_data(found, output)
        return
    machines, fences = _listed(found, "machines"), _listed(found, "fences")
    verdicts = [
        {**verdict, "machine": machine.get("id")} for machine in machines for verdict in _listed(machine, "verdicts")
    ]
    tables = ((machines, MACHINES, "id"), (verdicts, VERDICTS, "node"), (fences, FENCES, "fence"))
    filled = [table for table in tables if table[0]]
    for number, (rows, columns, key) in enumerate(filled):
        if number:
            print()
        show_list(rows, columns, key, output)
    complain(f"if {name} died now: {plain(found.get('summary'))}")


def _listed(document: Document, name: str) -> list[Document]:
    found = document.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
