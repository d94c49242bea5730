"""Commands about machines: add, start, stop, pause, resume, rm, list, show, log, stats."""

from __future__ import annotations

from typing import Any

import click

from garbi.base.errors import Conflict, NotFound
from garbi.hyper.cli.server import connect
from garbi.terminal.arguments import (
    each,
    filters_argument,
    ids_argument,
    no_wait_option,
    read_filters,
    read_pair,
    read_port,
)
from garbi.terminal.machines import FIGURE_COLUMNS, check, describe, measure, ports_text
from garbi.terminal.output import (
    Column,
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
from garbi.terminal.progress import settle
from garbi.terminal.text import clean_log

SHOW = "hyper show"

COLUMNS = (
    Column("id", field("id")),
    Column("name", lambda document: plain(document["name"]) if document["name"] != document["id"] else "", rare=True),
    Column("type", field("type")),
    Column("image", field("image")),
    Column("state", field("state")),
    Column("address", field("address")),
    Column("ports", ports_text),
    Column("mem", field("mem")),
    Column("cpus", field("cpus")),
    Column("reason", field("reason"), rare=True),
)


@click.command()
@click.argument("image")
@click.option("-i", "--id", help="Its id; chosen when not given.")
@click.option("-t", "--type", help="Which driver runs it; follows from the image when not given.")
@click.option("-m", "--mem", type=int, help="Memory in MiB.")
@click.option("-c", "--cpus", type=int, help="Processors.")
@click.option(
    "-p", "--publish", metavar="hostPort:machinePort[/udp]", multiple=True, help="Publish a port; repeatable."
)
@click.option(
    "--restart",
    type=click.Choice(("no", "on-failure", "always")),
    help="When it is started again after it ended by itself: on-failure unless given.",
)
@click.option("--name", help="Its name; its id when not given.")
@click.option("--label", metavar="KEY=VALUE", multiple=True, help="Repeatable.")
@click.option("--full-copy", is_flag=True, help="Copy the whole image instead of the changes only.")
@click.option("--no-start", is_flag=True, help="Make it, but do not start it.")
@no_wait_option
@click.pass_context
def add(
    context: click.Context,
    /,
    image: str,
    publish: tuple[str, ...],
    label: tuple[str, ...],
    full_copy: bool,
    no_start: bool,
    no_wait: bool,
    **chosen: str | int | None,
) -> None:
    """Make a machine from an image and start it; prints its id."""
    spec: dict[str, Any] = {"image": image, **{key: value for key, value in chosen.items() if value is not None}}
    if publish:
        spec["ports"] = [read_port(text) for text in publish]
    if label:
        spec["labels"] = dict(read_pair(text, "--label") for text in label)
    if full_copy:
        spec["full_copy"] = True
    if no_start:
        spec["state"] = "stopped"
    client = connect(context)
    machine = settle(client.machines.get, not no_wait, lambda wait_s: client.machines.add(spec, wait_s))
    if machine is None:
        raise NotFound("the machine was removed meanwhile")
    say(describe(machine) if on_terminal() else machine["id"])
    check(machine, "stopped" if no_start else "running", waited=not no_wait, show=SHOW)


@click.command()
@ids_argument
@no_wait_option
@click.pass_context
def start(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Start stopped machines."""
    _wish_each(context, ids, "running", no_wait)


@click.command()
@ids_argument
@no_wait_option
@click.pass_context
def stop(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Ask machines to end, and power off those that do not."""
    _wish_each(context, ids, "stopped", no_wait)


@click.command()
@ids_argument
@no_wait_option
@click.pass_context
def pause(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Freeze running machines in memory."""
    _wish_each(context, ids, "paused", no_wait)


@click.command()
@ids_argument
@no_wait_option
@click.pass_context
def resume(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Let paused machines run on."""
    _wish_each(context, ids, "running", no_wait)


@click.command()
@ids_argument
@no_wait_option
@click.option("--keep-s", type=click.IntRange(0), default=0, help="Keep their disks for so many seconds.")
@click.pass_context
def rm(context: click.Context, ids: tuple[str, ...], no_wait: bool, keep_s: int) -> None:
    """Remove machines and all that belongs to them, whatever they do."""
    client = connect(context)

    def remove(id: str) -> None:
        machine = settle(
            client.machines.get, not no_wait, lambda wait_s: client.machines.remove(id, wait_s, keep_s=keep_s)
        )
        say(f"{id} is {'removed' if machine is None else 'being removed'}" if on_terminal() else id)
        if machine is not None and not no_wait:
            raise Conflict(f"{id} is still being removed: {machine['reason'] or 'it goes on'}")

    each(context, ids, remove)


@click.command("list")
@filters_argument
@output_option
@quiet_option
@click.pass_context
def list_machines(context: click.Context, filters: tuple[str, ...], output: Format, quiet: bool) -> None:
    """List machines; `hyper list state=running type=docker` lists some of them."""
    show_list(connect(context).machines.list(read_filters(filters)), COLUMNS, "id", output, quiet)


@click.command()
@click.argument("id")
@output_option
@click.pass_context
def show(context: click.Context, id: str, output: Format) -> None:
    """Show all about one machine."""
    machine = connect(context).machines.get(id)
    show_one({**machine, "ports": ports_text(machine)} if output == "table" else machine, output)


@click.command()
@click.argument("id")
@click.option("--limit", type=int, help="Bytes of it, from its end.")
@click.pass_context
def log(context: click.Context, id: str, limit: int | None) -> None:
    """Print what a machine wrote to its console, without control characters."""
    text = clean_log(connect(context).machines.log(id, limit))
    print(text, end="" if text.endswith("\n") or not text else "\n")


@click.command()
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
        machine = settle(client.machines.get, not no_wait, lambda wait_s: client.machines.wish(id, state, wait_s))
        if machine is None:
            raise NotFound(f"{id} was removed meanwhile")
        if not no_wait:
            check(machine, state, waited=True, show=SHOW)
        say(describe(machine) if on_terminal() else machine["id"])

    each(context, ids, wish)


COMMANDS = (add, start, stop, pause, resume, rm, list_machines, show, log, stats)
