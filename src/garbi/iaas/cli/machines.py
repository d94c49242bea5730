"""Commands about machines: start, stop, pause, resume, rm, ls, show, log, stats. What adds them is in `adding`."""

from __future__ import annotations

import click

from garbi.base.errors import Conflict, NotFound
from garbi.iaas.cli.adding import add_machine
from garbi.iaas.cli.server import connect
from garbi.iaas.cli.waiting import settled
from garbi.terminal.arguments import each, filters_argument, ids_argument, no_wait_option, read_filters
from garbi.terminal.machines import FIGURE_COLUMNS, check, describe, measure, ports_text
from garbi.terminal.moments import seen_text, with_ages
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
    show_one,
)
from garbi.terminal.text import clean_log

SHOW = "iaas vm show"


def name_text(machine: Document) -> str:
    """The name of a machine that has one beside its id."""
    name = plain(machine.get("name"))
    return "" if name == plain(machine.get("id")) else name


COLUMNS = (
    Column("id", field("id")),
    Column("name", name_text, rare=True),
    Column("type", field("type")),
    Column("image", field("image")),
    Column("node", field("node")),
    Column("state", field("state")),
    Column("address", field("address")),
    Column("ports", ports_text),
    Column("mem", field("mem")),
    Column("cpus", field("cpus")),
    Column("seen", seen_text),
    Column("reason", field("reason"), rare=True),
)


@click.group("vm")
def commands() -> None:
    """The machines of the cloud, virtual machines and containers alike."""


commands.add_command(add_machine)


@commands.command("start")
@ids_argument
@no_wait_option
@click.pass_context
def start(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Start stopped machines."""
    _wish_each(context, ids, "running", no_wait)


@commands.command("stop")
@ids_argument
@no_wait_option
@click.pass_context
def stop(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Ask machines to end, and power off those that do not."""
    _wish_each(context, ids, "stopped", no_wait)


@commands.command("pause")
@ids_argument
@no_wait_option
@click.pass_context
def pause(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Freeze running machines in memory."""
    _wish_each(context, ids, "paused", no_wait)


@commands.command("resume")
@ids_argument
@no_wait_option
@click.pass_context
def resume(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Let paused machines run on."""
    _wish_each(context, ids, "running", no_wait)


@commands.command("rm")
@ids_argument
@no_wait_option
@click.pass_context
def rm(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Remove machines and all that belongs to them, whatever they do."""
    client = connect(context)

    def remove(id: str) -> None:
        machine = settled(client, not no_wait, lambda wait_s: client.machines.remove(id, wait_s))
        say(f"{id} is {'removed' if machine is None else 'being removed'}" if on_terminal() else id)
        if machine is not None and not no_wait:
            raise Conflict(f"{id} is still being removed: {plain(machine.get('reason')) or 'it goes on'}")

    each(context, ids, remove)


@commands.command("ls")
@filters_argument
@output_option
@quiet_option
@click.pass_context
def list_machines(context: click.Context, filters: tuple[str, ...], output: Format, quiet: bool) -> None:
    """List machines; `iaas vm ls state=running node=n1` lists some of them."""
    show_list(connect(context).machines.list(read_filters(filters)), COLUMNS, "id", output, quiet)


@commands.command("show")
@click.argument("id")
@output_option
@click.pass_context
def show(context: click.Context, id: str, output: Format) -> None:
    """Show all about one machine."""
    machine = connect(context).machines.get(id)
    show_one({**with_ages(machine), "ports": ports_text(machine)} if output == "table" else machine, output)


@commands.command("log")
@click.argument("id")
@click.option("--limit", type=int, help="Bytes of it, from its end.")
@click.pass_context
def log(context: click.Context, id: str, limit: int | None) -> None:
    """Print what a machine wrote to its console, without control characters."""
    text = clean_log(connect(context).machines.log(id, limit))
    print(text, end="" if text.endswith("\n") or not text else "\n")


@commands.command("stats")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--interval", type=click.FloatRange(0.1, 60), default=1.0, help="Seconds to measure CPU over.")
@output_option
@click.pass_context
def stats(context: click.Context, ids: tuple[str, ...], interval: float, output: Format) -> None:
    """Print live figures of running machines: CPU, memory, disk and network."""
    show_list(measure(connect(context).machines, ids, interval), FIGURE_COLUMNS, "id", output)


def _wish_each(context: click.Context, ids: tuple[str, ...], state: str, no_wait: bool) -> None:
    client = connect(context)

    def wish(id: str) -> None:
        machine = settled(client, not no_wait, lambda wait_s: client.machines.wish(id, state, wait_s))
        if machine is None:
            raise NotFound(f"{id} was removed meanwhile")
        check(machine, state, waited=not no_wait, show=SHOW)
        say(describe(machine, plain(machine.get("node"))) if on_terminal() else machine["id"])

    each(context, ids, wish)
