"""Commands about the whole: audit, backup, doctor, events."""

from __future__ import annotations

from pathlib import Path

import click

from garbi.base.errors import FinalError
from garbi.iaas.cli.server import connect
from garbi.terminal.arguments import filters_argument, read_filters
from garbi.terminal.events import show_events, stream_options
from garbi.terminal.findings import show_checks, show_violations
from garbi.terminal.output import Document, Format, output_option, quiet_option, show_one

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


@click.group()
def backup() -> None:
    """Backups of what the cloud knows."""


@backup.command("controller")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@output_option
@click.pass_context
def back_up(context: click.Context, file: Path | None, output: Format) -> None:
    """Make a backup of the controller, database and keys, on its host; FILE, on that host too, gets a copy of it."""
    made = connect(context).back_up()
    if file is not None:
        made = {**made, "path": str(_copied(Path(str(made["path"])), file))}
    show_one(made, output)


def _copied(made: Path, file: Path) -> Path:
    """The file of that name with the backup in it, for its owner's eyes only."""
    import os
    import shutil

    try:
        with (
            made.open("rb") as source,
            os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target,
        ):
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
    except FileExistsError:
        raise FinalError(
            f"the backup is {made} on the host of the controller; {file} is there already, and stays"
        ) from None
    except OSError as error:
        words = f"the backup is {made} on the host of the controller, and cannot be copied to {file} from here"
        raise FinalError(f"{words}: {error.strerror}") from error
    return file.absolute()


COMMANDS = (audit, backup, doctor, events)
