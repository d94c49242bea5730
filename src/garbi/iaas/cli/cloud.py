"""Commands about the whole: audit, doctor, events."""

from __future__ import annotations

from pathlib import Path

import click

from garbi.iaas.cli.server import connect
from garbi.terminal.arguments import filters_argument, read_filters
from garbi.terminal.events import show_events, stream_options
from garbi.terminal.findings import show_checks, show_violations
from garbi.terminal.output import Document, Format, output_option, quiet_option

EVENT_FIELDS = ("seq", "at", "subject", "id", "kind", "state", "actor", "reason")


@click.command()
@output_option
@quiet_option
@click.pass_context
def audit(context: click.Context, output: Format, quiet: bool) -> None:
    """Check the invariants of the cloud now; exit status 1 when one does not hold."""
    if not show_violations(connect(context).audit(), output, quiet):
        context.exit(1)


@click.command()
@click.option(
    "--data-dir",
    envvar="GARBI_IAAS_DATA_DIR",
    type=click.Path(path_type=Path),
    help="Where the controller's things are, or will be.",
)
@click.option("--database", envvar="GARBI_IAAS_DATABASE", metavar="URL", help="Its database.")
@output_option
@click.pass_context
def doctor(context: click.Context, data_dir: Path | None, database: str | None, output: Format) -> None:
    """Check this host as a controller's, also without a server, and say how to mend what fails; exit status 1 then."""
    from dataclasses import asdict

    from garbi.iaas.doctor import examine
    from garbi.iaas.settings import Settings

    settings = Settings.from_environment(data_dir=data_dir, database=database)
    checks: list[Document] = [{**asdict(check), "status": str(check.status)} for check in examine(settings)]
    if not show_checks(checks, output):
        context.exit(1)


@click.command()
@filters_argument
@stream_options
@output_option
@click.pass_context
def events(
    context: click.Context, filters: tuple[str, ...], after: int | None, last: int, follow: bool, output: Format
) -> None:
    """Print what happened in the cloud last, and what happens, by whom and why; `subject=node id=n1` for some of it."""
    found = connect(context).events(after, last if after is None else 0, follow, **read_filters(filters))
    show_events(found, EVENT_FIELDS, output)


COMMANDS = (audit, doctor, events)
