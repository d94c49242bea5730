"""How answers look: tables on a terminal, tab-separated columns in a pipe, JSON and YAML for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import click

from garbi.terminal.text import clean

Document = dict[str, Any]


Format = Literal["table", "json", "yaml"]
Command = TypeVar("Command", bound=Callable[..., Any])


def output_option(command: Command) -> Command:
    """Give a command `-o`."""
    formats = click.Choice(["table", "json", "yaml"])
    return click.option("-o", "--output", type=formats, default="table", help="How to print it.")(command)


def quiet_option(command: Command) -> Command:
    """Give a command `-q`."""
    return click.option("-q", "--quiet", is_flag=True, help="Print only ids or names, one a line.")(command)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. One that is `rare` is shown on a terminal only when a row has something in it."""

    title: str
    value: Callable[[Document], str]
    rare: bool = False


def field(name: str) -> Callable[[Document], str]:
    """The value of a field as text."""
    return lambda document: plain(document.get(name))


def plain(value: Any) -> str:
    """A value as one word or line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(plain(each) for each in value)
    if isinstance(value, dict):
        return ",".join(f"{clean(str(key))}={plain(each)}" for key, each in value.items())
    return clean(str(value))


def on_terminal() -> bool:
    """Whether a person reads the output."""
    return sys.stdout.isatty()


def say(text: str) -> None:
    """Print a line."""
    print(clean(text))


def complain(*lines: str) -> None:
    """Print an error, each of its lines with the program's name."""
    sys.stdout.flush()
    for line in lines:
        print(f"{_speaker}: {clean(line)}", file=sys.stderr)


_speaker = "garbi"


def speak_as(program: str) -> None:
    """Have errors begin with the name of this program from now on."""
    global _speaker  # noqa: PLW0603 - a process is one program
    _speaker = program


def show_list(
    documents: Sequence[Document], columns: Sequence[Column], key: str, output: Format, quiet: bool = False
) -> None:
    """Print a list; `key` is the field that `quiet` is about."""
    if quiet:
        for document in documents:
            say(plain(document[key]))
    elif output != "table":
        show_data(list(documents), output)
    elif on_terminal():
        _show_table(documents, columns)
    else:
        print("\t".join(column.title.upper() for column in columns))
        for document in documents:
            print("\t".join(clean(column.value(document)) or "-" for column in columns))


def show_one(document: Document, output: Format) -> None:
    """Print one document, field by field."""
    if output != "table":
        show_data(document, output)
        return
    width = max((len(name) for name in document), default=0) if on_terminal() else 0
    separator = "  " if on_terminal() else "\t"
    for name, value in document.items():
        print(f"{clean(name):<{width}}{separator}{plain(value) or '-'}")


def flatten(document: Document, prefix: str = "") -> Document:
    """Nested documents as one, with dotted names."""
    flat: Document = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def show_data(data: Any, output: Format) -> None:
    """Print data for programs; ASCII only, so that nothing in it reaches a terminal as more than text."""
    print(json.dumps(data, indent=2) if output == "json" else to_yaml(data))


def to_yaml(data: Any) -> str:
    """Documents of JSON as YAML: block style, with strings quoted as JSON does wherever YAML could take them otherwise."""
    return "\n".join(_yaml_lines(data))


_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*\Z")
_LONGEST_PLAIN_KEY = 1000  # YAML takes 1024 characters for a key at most, unless it is told that it is one
_YAML_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _yaml_lines(data: Any) -> list[str]:
    if isinstance(data, dict) and data:
        lines = []
        for key, value in data.items():
            name, nested = _scalar(key), _yaml_lines(value)
            if len(name) > _LONGEST_PLAIN_KEY:
                lines.append(f"? {name}")
                name = ""
            if isinstance(value, dict | list) and value:
                lines += [f"{name}:", *(f"  {line}" for line in nested)]
            else:
                lines.append(f"{name}: {nested[0]}")
        return lines
    if isinstance(data, list) and data:
        lines = []
        for item in data:
            first, *rest = _yaml_lines(item)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
        return lines
    return [_scalar(data)]


def _scalar(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str):
        if _PLAIN.match(value) and value.lower() not in _YAML_WORDS:
            return value
        return "".join(char if char.isascii() and char.isprintable() else f"\\U{ord(char):08x}" for char in text)
    # YAML 1.1 takes a number with an exponent for text unless it has a point.
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text


def size_text(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


STATE_STYLES = {"running": "green", "failed": "red", "unknown": "red", "stopped": "dim", "ok": "green", "bad": "red"}


def _show_table(documents: Sequence[Document], columns: Sequence[Column]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [column for column in columns if not column.rare or any(column.value(each) for each in documents)]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in shown:
        table.add_column(column.title.upper(), overflow="fold")
    for document in documents:
        cells = [clean(column.value(document)) for column in shown]
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in cells))
    Console().print(table)
