"""The command that makes machines: what it understands, and how one, or many, are made and told of."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from garbi.base.errors import Conflict, GarbiError, NotFound, NothingFits
from garbi.iaas.cli.operations import counted, verdict_lines
from garbi.iaas.cli.server import connect
from garbi.iaas.cli.waiting import settled
from garbi.terminal.arguments import no_wait_option, read_pair, read_port
from garbi.terminal.machines import check, describe
from garbi.terminal.output import (
    Column,
    Document,
    Format,
    complain,
    field,
    on_terminal,
    output_option,
    plain,
    quiet_option,
    say,
    show_data,
    show_list,
)
from garbi.terminal.program import is_away
from garbi.terminal.progress import WAIT_S

if TYPE_CHECKING:
    from garbi.iaas_api.client import IaasClient

PORT = "nodePort:vmPort[/udp]"
SHOW = "iaas vm show"
AT_ONCE = 16
"""Machines of one command that are asked for at the same time."""

MOST = 1000

VERDICT_COLUMNS = (
    Column("node", field("node")),
    Column("fits", field("fits")),
    Column("score", field("score")),
    Column("filter", field("filter")),
    Column("reason", field("reason")),
)


@click.command("add")
@click.argument("image", metavar="IMAGE")
@click.option("-i", "--id", help="Its id; chosen when not given.")
@click.option("-t", "--type", help="Which driver runs it; follows from the image when not given.")
@click.option("-m", "--mem", type=int, help="Memory in MiB.")
@click.option("-c", "--cpus", type=int, help="Processors.")
@click.option("-n", "--node", help="The node that it must run on; the scheduler chooses when not given.")
@click.option(
    "-p", "--publish", metavar=PORT, multiple=True, help="Publish a port; repeatable. The node must be given: -n."
)
@click.option("--name", help="Its name; its id when not given.")
@click.option(
    "--on-node-failure",
    type=click.Choice(["stay", "recreate"]),
    help="What becomes of it when its node is dead: wait for the node, or be made anew elsewhere; by the cloud's default "
    "for its type when not given (GARBI_IAAS_ON_NODE_FAILURE; else containers are made anew).",
)
@click.option("--label", metavar="KEY=VALUE", multiple=True, help="Repeatable.")
@click.option("--require", metavar="KEY=VALUE", multiple=True, help="A label that its node must have; repeatable.")
@click.option(
    "--apart", metavar="KEY", help="Not on a node with another machine that has the same value of this label."
)
@click.option("--strategy", type=click.Choice(["spread", "pack", "load"]), help="What decides among nodes that fit.")
@click.option(
    "--restart",
    type=click.Choice(["no", "on-failure", "always"]),
    help="When its node starts it again after it ended by itself: on-failure unless given.",
)
@click.option("--full-copy", is_flag=True, help="Copy the whole image instead of the changes only.")
@click.option("--no-start", is_flag=True, help="Make it, but do not start it.")
@click.option("--count", type=click.IntRange(1, MOST), metavar="N", help="Make so many, named NAME-1 to NAME-N.")
@click.option("--explain", is_flag=True, help="Only tell where it would run, and why not elsewhere.")
@no_wait_option
@output_option
@quiet_option
@click.pass_context
def add_machine(
    context: click.Context,
    /,
    publish: tuple[str, ...],
    count: int | None,
    explain: bool,
    no_wait: bool,
    output: Format,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Make machines from an image and start them; prints their ids."""
    spec = read_spec(publish, **chosen)
    if count is not None and (publish or chosen["id"]):
        raise click.UsageError("--count excludes -p and -i: only one machine can have a port or an id")
    client = connect(context)
    if explain:
        fits = show_explanation(client.machines.explain(spec), output, quiet)
    elif count is None:
        fits = _add_one(client, spec, not no_wait, output, quiet)
    else:
        fits = _add_many(client, numbered(spec, count), not no_wait, output, quiet)
    if not fits:
        context.exit(1)


def read_spec(
    publish: tuple[str, ...],
    label: tuple[str, ...],
    require: tuple[str, ...],
    full_copy: bool,
    no_start: bool,
    **chosen: Any,
) -> Document:
    """What is asked for, as REST takes it; raises BadParameter or UsageError for what need not be asked."""
    spec: Document = {name: value for name, value in chosen.items() if value is not None}
    if publish:
        if not chosen.get("node"):
            raise click.UsageError("-p needs -n: a port is published on a node that you name")
        spec["ports"] = [read_port(text, PORT) for text in publish]
    if label:
        spec["labels"] = dict(read_pair(text, "--label") for text in label)
    if require:
        spec["require"] = dict(read_pair(text, "--require") for text in require)
    if chosen.get("apart") and chosen["apart"] not in spec.get("labels", {}):
        raise click.BadParameter(
            f"the machine needs a label {chosen['apart']} itself: add --label {chosen['apart']}=…", param_hint="--apart"
        )
    if full_copy:
        spec["full_copy"] = True
    if no_start:
        spec["state"] = "stopped"
    return spec


def numbered(spec: Document, count: int) -> list[Document]:
    """The same asked for so many times, each with a number in its name if it has one."""
    if "name" not in spec:
        return [spec] * count
    return [{**spec, "name": f"{spec['name']}-{number}"} for number in range(1, count + 1)]


def show_explanation(explanation: Document, output: Format, quiet: bool) -> bool:
    """Print where a machine would run and the verdict on every node; whether it would run at all."""
    chosen = plain(explanation.get("chosen"))
    verdicts = explanation.get("verdicts")
    listed = [each for each in verdicts if isinstance(each, dict)] if isinstance(verdicts, list) else []
    if quiet:
        if chosen:
            say(chosen)
    elif output != "table":
        show_data(explanation, output)
    else:
        show_list(listed, VERDICT_COLUMNS, "node", output)
        complain(
            f"it would run on {chosen}" if chosen else f"it would run nowhere: {plain(explanation.get('summary'))}"
        )
    return bool(chosen)


def _add_one(client: IaasClient, spec: Document, wait: bool, output: Format, quiet: bool) -> bool:
    try:
        machine = settled(client, wait, lambda wait_s: client.machines.add(spec, wait_s))
    except NothingFits as error:
        complain(error.detail, *verdict_lines(error))
        return False
    if machine is None:
        raise NotFound("the machine was removed meanwhile")
    _show([machine], output, quiet, machine)
    check(machine, spec.get("state", "running"), waited=wait, show=SHOW)
    return True


def _add_many(client: IaasClient, specs: list[Document], wait: bool, output: Format, quiet: bool) -> bool:
    """Make many at the same time; print those that were made in their order, and why the others were not."""
    made: list[Document] = []
    failures = 0
    for number, outcome in _outcomes(client, specs, wait):
        try:
            if isinstance(outcome, GarbiError):
                raise outcome
            made.append(outcome)
            if output == "table":
                _show([outcome], output, quiet, outcome)
            check(outcome, specs[number].get("state", "running"), waited=wait, show=SHOW)
        except GarbiError as error:
            if is_away(error):
                raise
            failures += 1
            complain(f"{specs[number].get('name', f'machine {number + 1}')}: {error.detail}")
    if output != "table":
        _show(made, output, quiet, made)
    if failures:
        complain(f"{failures} of {len(specs)} machines failed")
    return not failures


def _outcomes(client: IaasClient, specs: list[Document], wait: bool) -> Iterator[tuple[int, Document | GarbiError]]:
    """What became of each, in their order. Threads that end with the program: a Ctrl-C must not wait for a host."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Document | GarbiError]] = queue.SimpleQueue()
    for number in range(len(specs)):
        waiting.put(number)

    def work() -> None:
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            done.put((number, _outcome(client, specs[number], wait)))

    for _ in range(min(AT_ONCE, len(specs))):
        threading.Thread(target=work, daemon=True).start()
    found: dict[int, Document | GarbiError] = {}
    with counted("machines", len(specs)) as advance:
        for number in range(len(specs)):
            while number not in found:
                at, outcome = done.get()
                found[at] = outcome
                advance()
            yield number, found.pop(number)


def _outcome(client: IaasClient, spec: Document, wait: bool) -> Document | GarbiError:
    try:
        return client.machines.add(spec, WAIT_S if wait else 0)
    except GarbiError as error:
        return error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return Conflict(f"an answer could not be understood ({type(error).__name__}: {error})")


def _show(machines: list[Document], output: Format, quiet: bool, data: Any) -> None:
    if output != "table" and not quiet:
        show_data(data, output)
        return
    for machine in machines:
        say(describe(machine, plain(machine.get("node"))) if on_terminal() and not quiet else machine["id"])
