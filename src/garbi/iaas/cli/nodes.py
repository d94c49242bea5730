"""Commands about nodes: add, rm, ls, show, drain, undrain, confirm-dead."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from garbi.base.errors import FinalError, GarbiError, ProvisioningFailed
from garbi.base.places import default_data_dir
from garbi.iaas.cli.operations import failure_lines, follow
from garbi.iaas.cli.server import connect
from garbi.terminal.arguments import each, filters_argument, no_wait_option, read_filters, read_pair
from garbi.terminal.identity import find_token, is_local
from garbi.terminal.moments import seen_text, with_ages
from garbi.terminal.output import (
    Column,
    Command,
    Document,
    Format,
    complain,
    field,
    flatten,
    on_terminal,
    output_option,
    plain,
    quiet_option,
    say,
    show_list,
    show_one,
)
from garbi.terminal.program import is_away

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):([0-9]{1,5})\Z")
_SSH_OPTIONS = ("ssh_user", "ssh_port", "ssh_key", "ssh_host_key")


def names_argument(command: Command) -> Command:
    """Give a command one or more names of nodes."""
    return click.argument("names", metavar="NAME...", nargs=-1, required=True)(command)


def drivers_text(node: Document) -> str:
    """The types of machine that the node runs."""
    drivers = node.get("drivers")
    listed = [one for one in drivers if isinstance(one, dict)] if isinstance(drivers, list) else []
    return ",".join(plain(one.get("name")) for one in listed if one.get("available") is True)


def _of(name: str) -> Column:
    """How much of an amount is reserved, of how much."""

    def text(node: Document) -> str:
        used, limit = node.get("use"), node.get("limit")
        if not isinstance(used, dict) or not isinstance(limit, dict):
            return ""
        return f"{plain(used.get(name))}/{plain(limit.get(name))}"

    return Column(name, text)


COLUMNS = (
    Column("name", field("name")),
    Column("state", field("state")),
    Column("address", field("address")),
    Column("machines", field("machines")),
    _of("mem"),
    _of("cpus"),
    Column("types", lambda node: "witness" if node.get("witness") else drivers_text(node)),
    Column("seen", seen_text),
    Column("labels", field("labels"), rare=True),
    Column("reason", field("reason"), rare=True),
)


@click.group("node")
def commands() -> None:
    """The hosts of the cloud."""


@commands.command("add")
@click.argument("name")
@click.argument("address", metavar="ADDR:PORT")
@click.option("--ssh-user", metavar="U", help="Who logs in to set the host up; root when not given.")
@click.option("--ssh-port", type=click.IntRange(1, 65535), metavar="P", help="Port of its SSH; 22 when not given.")
@click.option(
    "--ssh-key", metavar="F", type=click.Path(path_type=Path), help="Private key, a file on the controller's host."
)
@click.option("--ssh-host-key", metavar="KEY", help="The host's own key: SHA256:…, a public key, or a file with one.")
@click.option("--no-provision", is_flag=True, help="Hyper runs there already: set nothing up.")
@click.option(
    "--token-file",
    metavar="F",
    type=click.Path(path_type=Path),
    help="Token of the hyper that runs there, for --no-provision; this host's own when not given.",
)
@click.option(
    "--witness", is_flag=True, help="Carry no machines: be a third voice beside two nodes; any small host will do."
)
@click.option(
    "--live-restore/--no-live-restore",
    default=None,
    help="Let containers of a Docker that is there already run on while dockerd restarts; asked on a terminal, else no.",
)
@click.option("--label", metavar="KEY=VALUE", multiple=True, help="For `vm add --require`; repeatable.")
@click.option("--overcommit-mem", type=float, metavar="X", help="How often its memory may be promised; 1.")
@click.option("--overcommit-cpus", type=float, metavar="X", help="How often its processors may be promised; 16.")
@click.option("--overcommit-disk", type=float, metavar="X", help="How often its disk may be promised; 4.")
@no_wait_option
@click.pass_context
def add_node(
    context: click.Context,
    /,
    name: str,
    address: str,
    no_provision: bool,
    token_file: Path | None,
    no_wait: bool,
    **chosen: Any,
) -> None:
    """Make a host a node, over SSH; prints its name. A node that failed is tried again."""
    spec: dict[str, Any] = {"name": name, "address": read_address(address), **_wanted(chosen)}
    ssh = _ssh(chosen)
    if ssh and no_provision:
        raise click.UsageError("--no-provision and the options about SSH exclude each other")
    if no_provision:
        spec |= {"provision": False, **_node_token(address, token_file)}
    elif token_file is not None:
        raise click.BadParameter(
            "only goes with --no-provision: else the node is given a token", param_hint="--token-file"
        )
    if ssh:
        spec["ssh"] = ssh
    if _wants_live_restore(chosen["live_restore"], excluded=no_provision or chosen["witness"]):
        spec["live_restore"] = True
    client = connect(context)
    node = client.nodes.add(spec)
    if not no_wait and plain(node.get("operation")):
        try:
            follow(client, node["operation"], f"adding {name}")
        except GarbiError as error:
            if is_away(error):
                raise
            complain(*failure_lines(error), f"mend it and say `iaas node add` again, or `iaas node rm {name}`")
            context.exit(1)
        node = client.nodes.get(name)
    say(describe(node) if on_terminal() else node["name"])


@commands.command("rm")
@names_argument
@click.option("--force", is_flag=True, help="Remove its machines too, and a node whose host does not answer.")
@no_wait_option
@click.pass_context
def remove_node(context: click.Context, names: tuple[str, ...], force: bool, no_wait: bool) -> None:
    """Remove nodes and leave their hosts clean; refused while machines are there."""
    client = connect(context)

    def remove(name: str) -> None:
        node = client.nodes.remove(name, force)
        if not no_wait and plain(node.get("operation")):
            message = plain(follow(client, node["operation"], f"removing {name}").get("message"))
            if message != f"node {name} is removed":  # something of it stays on its host
                complain(message)
        gone = "being removed" if no_wait else "removed"
        say(f"{name} is {gone}" if on_terminal() else name)

    def words(error: GarbiError) -> list[str]:
        if force or not isinstance(error, ProvisioningFailed):
            return failure_lines(error)
        return [*failure_lines(error), "--force gives it up and leaves its host as it is"]

    each(context, names, remove, words)


@commands.command("ls")
@filters_argument
@output_option
@quiet_option
@click.pass_context
def list_nodes(context: click.Context, filters: tuple[str, ...], output: Format, quiet: bool) -> None:
    """List nodes; `iaas node ls state=ready` lists some of them."""
    show_list(connect(context).nodes.list(read_filters(filters)), COLUMNS, "name", output, quiet)


@commands.command("show")
@click.argument("name")
@output_option
@click.pass_context
def show_node(context: click.Context, name: str, output: Format) -> None:
    """Show all about one node."""
    node = connect(context).nodes.get(name)
    shown = {**flatten(with_ages(node)), "drivers": _drivers_in_words(node)}
    show_one(shown if output == "table" else node, output)


@commands.command("drain")
@names_argument
@no_wait_option
@click.pass_context
def drain(context: click.Context, names: tuple[str, ...], no_wait: bool) -> None:
    """Let nodes take nothing new; move from them what may be moved, stop what may not."""
    client = connect(context)

    def empty(name: str) -> None:
        node = client.nodes.drain(name)
        if not no_wait and plain(node.get("operation")):
            operation = follow(client, node["operation"], f"draining {name}")
            if plain(operation.get("message")):
                complain(f"{name}: {plain(operation['message'])}")
            node = client.nodes.get(name)
        say(describe(node) if on_terminal() else node["name"])

    each(context, names, empty, failure_lines)


@commands.command("undrain")
@names_argument
@click.pass_context
def undrain(context: click.Context, names: tuple[str, ...]) -> None:
    """Let nodes take machines again."""
    client = connect(context)
    each(context, names, lambda name: _tell(client.nodes.undrain(name)), failure_lines)


@commands.command("confirm-dead")
@names_argument
@click.pass_context
def confirm_dead(context: click.Context, names: tuple[str, ...]) -> None:
    """Say, having looked, that unreachable nodes are dead: their machines count as failed."""
    client = connect(context)
    each(context, names, lambda name: _tell(client.nodes.confirm_dead(name)), failure_lines)


def read_address(text: str) -> str:
    """An address as `node add` takes it."""
    match = _ADDRESS.match(text)
    if match is None or not 1 <= int(match.group(3)) <= 65535:
        raise click.BadParameter(f"{text!r} is not addr:port, such as 10.0.0.5:8081", param_hint="ADDR:PORT")
    return text


def read_host_key(text: str) -> str:
    """A host key as `--ssh-host-key` takes it: itself, or the first line of the file that it names."""
    if text.startswith("SHA256:") or " " in text:
        return text
    try:
        lines = Path(text).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise click.BadParameter(
            f"{text!r} is neither SHA256:…, nor a public key, nor a file with one", param_hint="--ssh-host-key"
        ) from None
    return next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")


def describe(node: Document) -> str:
    """One line about a node."""
    facts = [plain(node.get("address")), drivers_text(node), plain(node.get("reason"))]
    return f"{plain(node.get('name'))} is {plain(node.get('state'))} ({', '.join(fact for fact in facts if fact)})"


def _wanted(chosen: dict[str, Any]) -> dict[str, Any]:
    """What the node is to be, as far as the options say."""
    overcommit = {
        amount: value for amount in ("mem", "cpus", "disk") if (value := chosen[f"overcommit_{amount}"]) is not None
    }
    labels = dict(read_pair(text, "--label") for text in chosen["label"])
    wanted = {"overcommit": overcommit, "labels": labels, "witness": chosen["witness"]}
    return {name: value for name, value in wanted.items() if value}


def _wants_live_restore(chosen: bool | None, *, excluded: bool) -> bool:
    """Whether a Docker that is found on the host is to be set so: somebody's setting, so that its owner has to say it."""
    if excluded:
        if chosen:
            raise click.UsageError(
                "--live-restore excludes --no-provision and --witness: nothing of Docker is set up then"
            )
        return False
    if chosen is not None or not (on_terminal() and sys.stdin.isatty()):
        return bool(chosen)
    question = "If Docker is there already: let its containers run on while dockerd restarts (live-restore)?"
    return click.confirm(question, default=False, err=True)


def _ssh(chosen: dict[str, Any]) -> dict[str, Any]:
    given = {name.removeprefix("ssh_"): chosen[name] for name in _SSH_OPTIONS if chosen[name] is not None}
    if "key" in given:
        given["key_file"] = str(given.pop("key").expanduser().absolute())
    if "host_key" in given:
        given["host_key"] = read_host_key(given["host_key"])
    return given


def _node_token(address: str, token_file: Path | None) -> dict[str, str]:
    """The token of the hyper that runs there: from the file, or this host's own if it is that."""
    url = f"http://{address}"
    secret = find_token(token_file, "GARBI_HYPER_", default_data_dir("hyper"), url)
    if secret is None and not is_local(url):
        raise FinalError(
            f"the hyper at {address} answers only to who has its token: name the file with it by --token-file "
            "(on its host: the file `token` in hyper's data directory)"
        )
    return {} if secret is None else {"token": secret}


def _drivers_in_words(node: Document) -> str:
    drivers = node.get("drivers")
    words = []
    for driver in drivers if isinstance(drivers, list) else []:
        if isinstance(driver, dict):
            fine = driver.get("available") is True
            state = plain(driver.get("version")) if fine else f"no: {plain(driver.get('reason'))}"
            words.append(f"{plain(driver.get('name'))} ({state})")
    return ", ".join(words)


def _tell(node: Document) -> None:
    say(describe(node) if on_terminal() else node["name"])
