"""A log line is one line, whatever is in it."""

import logging

from garbi.base.logs import EventFormatter


def record(message: str, **fields: object) -> logging.LogRecord:
    return logging.getLogger("test").makeRecord("test", logging.WARNING, "f", 1, message, (), None, extra=fields)


def test_the_fields_of_an_event_follow_it_as_pairs() -> None:
    line = EventFormatter().format(record("port lost", machine="m1", port=80, holder="nginx (pid 7)"))
    assert line.endswith('Z warning port lost machine=m1 port=80 holder="nginx (pid 7)"')


def test_a_newline_in_a_field_cannot_forge_another_line() -> None:
    line = EventFormatter().format(record("a\nb", detail="x\n2026-01-01 info all is well\x1b[2J"))
    assert line.count("\n") == 0
    assert "\x1b" not in line


def test_an_exception_follows_indented_and_harmless() -> None:
    try:
        raise ValueError("a\n2026 info forged\x1b[2J\r")
    except ValueError as error:
        broken = record("broken")
        broken.exc_info = (type(error), error, error.__traceback__)
    lines = EventFormatter().format(broken).split("\n")
    assert all(line.startswith("    ") and line.isprintable() for line in lines[1:])
