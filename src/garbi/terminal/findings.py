"""What a doctor or an audit found, line by line."""

from __future__ import annotations

import click

from garbi.terminal.output import Column, Document, Format, field, on_terminal, plain, say, show_list

CHECK_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
CHECK_COLUMNS = (
    Column("check", field("name")),
    Column("status", field("status")),
    Column("found", field("found")),
    Column("mend", field("mend"), rare=True),
)
VIOLATION_COLUMNS = (
    Column("invariant", field("invariant")),
    Column("subject", field("subject")),
    Column("detail", field("detail")),
)


def show_checks(checks: list[Document], output: Format) -> bool:
    """Print the checks of a doctor; whether none failed."""
    if output == "table" and on_terminal():
        _print_checks(checks)
    else:
        show_list(checks, CHECK_COLUMNS, "name", output)
    return not any(check["status"] == "fail" for check in checks)


def show_violations(violations: list[Document], output: Format, quiet: bool) -> bool:
    """Print the invariants that do not hold; whether there are none."""
    if not violations and output == "table" and on_terminal():
        say("every invariant holds")
    else:
        show_list(violations, VIOLATION_COLUMNS, "subject", output, quiet)
    return not violations


def _print_checks(checks: list[Document]) -> None:
    """One line a check, and below it how to mend what is not as it should be."""
    width = max((len(check["name"]) for check in checks), default=0)
    for check in checks:
        status = click.style(f"{check['status']:<4}", fg=CHECK_COLOURS[check["status"]], bold=True)
        click.echo(f"{status}  {check['name']:<{width}}  {plain(check['found'])}")
        if check["mend"]:
            click.echo(f"{'':<{width + 8}}mend: {plain(check['mend'])}")
