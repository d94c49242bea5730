"""Commands about the whole: audit, doctor, events."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from garbi.iaas.cli.server import connect
from garbi.terminal.arguments import filters_argument, read_filters
from garbi.terminal.findings import show_checks, show_violations
from garbi.terminal.output import Document, Format, output_option, plain, quiet_option, show_data

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
@click.option("--after", type=int, help="Begin after the event of this number.")
@output_option
@click.pass_context
def events(context: click.Context, filters: tuple[str, ...], after: int | None, output: Format) -> None:
    """Print everything that happens in the cloud, until Ctrl-C; `subject=node id=n1` for some of it."""
    for event in connect(context).events(after, **read_filters(filters)):
        if output == "table":
            print("\t".join(plain(event.get(name)) or "-" for name in EVENT_FIELDS))
        else:
            show_data([event] if output == "yaml" else event, output)
        sys.stdout.flush()


COMMANDS = (audit, doctor, events)
