"""Commands about the host: drivers, host, doctor, audit, events."""

from __future__ import annotations

from pathlib import Path

import click

from garbi.hyper.cli.server import connect
from garbi.terminal.arguments import filters_argument, read_filters
from garbi.terminal.events import show_events, stream_options
from garbi.terminal.findings import show_checks, show_violations
from garbi.terminal.output import (
    Column,
    Document,
    Format,
    field,
    flatten,
    output_option,
    quiet_option,
    show_list,
    show_one,
)

EVENT_FIELDS = ("seq", "at", "machine_id", "kind", "state", "reason")
DRIVER_COLUMNS = (
    Column("name", field("name")),
    Column("available", field("available")),
    Column("version", field("version")),
    Column("images", field("image_types")),
    Column("abilities", field("abilities")),
    Column("reason", field("reason"), rare=True),
)


@click.command()
@filters_argument
@output_option
@quiet_option
@click.pass_context
def drivers(context: click.Context, filters: tuple[str, ...], output: Format, quiet: bool) -> None:
    """List what this host can run machines with, and why it cannot."""
    show_list(connect(context).drivers(**read_filters(filters)), DRIVER_COLUMNS, "name", output, quiet)


@click.command()
@output_option
@click.pass_context
def host(context: click.Context, output: Format) -> None:
    """Show what this host has: capacity, use, versions, virtualisation."""
    report = connect(context).host()
    show_one(report if output != "table" else flatten(report), output)


@click.command()
@click.option(
    "--data-dir",
    envvar="GARBI_HYPER_DATA_DIR",
    type=click.Path(path_type=Path),
    help="Where the agent's things are, or will be.",
)
@click.option("--witness", is_flag=True, help="This host carries no machines: it needs no engine.")
@output_option
@click.pass_context
def doctor(context: click.Context, data_dir: Path | None, witness: bool, output: Format) -> None:
    """Check this host, also without a server, and say how to mend what fails; exit status 1 when something does."""
    from dataclasses import asdict

    from garbi.hyper.agent.doctor import check_database
    from garbi.hyper.host.doctor import DoctorSettings, checks_of, run_checks
    from garbi.hyper.leases.doctor import check_kernel_watchdog, check_watchdog

    settings = DoctorSettings() if data_dir is None else DoctorSettings(data_dir=data_dir)
    beside = {"database": check_database, "watchdog": check_watchdog, "kernel-watchdog": check_kernel_watchdog}
    wanted = {**checks_of(settings, witness=witness), **beside}
    checks: list[Document] = [{**asdict(check), "status": str(check.status)} for check in run_checks(settings, wanted)]
    if not show_checks(checks, output):
        context.exit(1)


@click.command()
@output_option
@quiet_option
@click.pass_context
def audit(context: click.Context, output: Format, quiet: bool) -> None:
    """Check the invariants of the host now; exit status 1 when one does not hold."""
    if not show_violations(connect(context).audit(), output, quiet):
        context.exit(1)


@click.command()
@filters_argument
@stream_options
@output_option
@click.pass_context
def events(
    context: click.Context, filters: tuple[str, ...], after: int | None, last: int, follow: bool, output: Format
) -> None:
    """Print what happened to machines last, and what happens, and why; `machine_id=web` for one machine only."""
    found = connect(context).events(after, last if after is None else 0, follow, **read_filters(filters))
    show_events(found, EVENT_FIELDS, output)


COMMANDS = (drivers, host, doctor, audit, events)
