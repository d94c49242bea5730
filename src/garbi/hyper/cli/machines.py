"""Commands about machines: add, start, stop, pause, resume, rm, list, show, log, stats."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import click

from garbi.base.errors import AbilityMissing, Conflict, GarbiError, NotFound, ServerUnreachable
from garbi.hyper.cli.server import connect
from garbi.terminal.output import (
    Column,
    Command,
    Document,
    Format,
    complain,
    field,
    on_terminal,
    output_option,
    plain,
    quiet_option,
    say,
    show_list,
    show_one,
    size_text,
)
from garbi.terminal.progress import settle
from garbi.terminal.text import clean_log

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


def ports_text(document: Document) -> str:
    """The published ports in the form that `-p` takes."""
    return ",".join(
        f"{port['node_port']}:{port['machine_port']}{'' if port['protocol'] == 'tcp' else '/udp'}"
        for port in document["ports"]
    )


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
    check(machine, "stopped" if no_start else "running", waited=not no_wait)


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
@click.pass_context
def rm(context: click.Context, ids: tuple[str, ...], no_wait: bool) -> None:
    """Remove machines and all that belongs to them, whatever they do."""
    client = connect(context)

    def remove(id: str) -> None:
        machine = settle(client.machines.get, not no_wait, lambda wait_s: client.machines.remove(id, wait_s))
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
    machines = connect(context).machines
    wanted = ids or tuple(machine["id"] for machine in machines.list({"state": "running"}))

    def measure(id: str) -> tuple[float, Document] | None:
        """The figures of a machine; None when it has none and was not asked for by its id."""
        try:
            return time.monotonic(), machines.figures(id)
        except (AbilityMissing, Conflict, NotFound):
            if ids:
                raise
            return None

    first = {id: found for id in wanted if (found := measure(id))}
    time.sleep(interval if first else 0)
    second = {id: found for id in first if (found := measure(id))}
    rows = [with_cpu(*first[id], *second[id]) for id in second]
    show_list(rows, FIGURE_COLUMNS, "id", output)


def with_cpu(began: float, before: Document, ended: float, after: Document) -> Document:
    """The later figures with the share of a processor that was used meanwhile."""
    used = (after["cpu_seconds"] - before["cpu_seconds"]) / (ended - began)
    return {**after, "cpu_percent": round(100 * used, 1)}


def _size(name: str) -> Callable[[Document], str]:
    return lambda document: size_text(document[name]) if on_terminal() else plain(document[name])


FIGURE_COLUMNS = (
    Column("id", field("id")),
    Column("cpu %", field("cpu_percent")),
    Column("cpu s", lambda document: f"{document['cpu_seconds']:.1f}"),
    Column("memory", _size("memory_bytes")),
    Column("disk read", _size("disk_read_bytes")),
    Column("disk written", _size("disk_written_bytes")),
    Column("net in", _size("network_received_bytes")),
    Column("net out", _size("network_sent_bytes")),
)


def _wish_each(context: click.Context, ids: tuple[str, ...], state: str, no_wait: bool) -> None:
    client = connect(context)

    def wish(id: str) -> None:
        machine = settle(client.machines.get, not no_wait, lambda wait_s: client.machines.wish(id, state, wait_s))
        if machine is None:
            raise NotFound(f"{id} was removed meanwhile")
        if not no_wait:
            check(machine, state, waited=True)
        say(describe(machine) if on_terminal() else machine["id"])

    each(context, ids, wish)


def each(context: click.Context, ids: Iterable[str], do: Callable[[str], None]) -> None:
    """Do something with every id; an error with one does not keep the others from it, but from success."""
    failed = False
    for id in ids:
        try:
            do(id)
        except ServerUnreachable:
            raise
        except GarbiError as error:
            complain(error.detail)
            failed = True
    if failed:
        context.exit(1)


def check(machine: Document, wished: str, waited: bool) -> None:
    """Raise Conflict when a machine did not become what was wished of it."""
    if not waited or machine["state"] == wished:
        return
    if not machine["settled"]:
        raise Conflict(f"{machine['id']} is still {machine['state']}; it goes on: see `hyper show {machine['id']}`")
    raise Conflict(f"{machine['id']} is {machine['state']}: {machine['reason'] or 'for no reason known'}")


def describe(machine: Document) -> str:
    """One line about a machine."""
    facts = [machine["type"], machine["address"] or "", ports_text(machine) and f"ports {ports_text(machine)}"]
    return f"{machine['id']} is {machine['state']} ({', '.join(fact for fact in facts if fact)})"


def read_port(text: str) -> Document:
    """A port as `-p` takes it."""
    match = _PORT.match(text)
    if match is None or not all(1 <= int(number) <= 65535 for number in match.group(1, 2)):
        raise click.BadParameter(f"{text!r} is not hostPort:machinePort[/udp]", param_hint="-p")
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


COMMANDS = (add, start, stop, pause, resume, rm, list_machines, show, log, stats)
