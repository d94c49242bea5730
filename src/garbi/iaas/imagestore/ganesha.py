"""Reads the configuration of NFS-Ganesha: blocks in braces, with names and values. Names do not mind capitals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""\#[^\n]* | "(?P<double>[^"]*)" | '(?P<single>[^']*)' | (?P<mark>[{}=;,]) | (?P<word>[^\s{}=;,#"']+)""", re.X
)


@dataclass(slots=True)
class Block:
    """A block: its name, its values by their names, the blocks in it. A value that is named twice has all values."""

    name: str
    values: dict[str, list[str]] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


def read_blocks(text: str) -> list[Block]:
    """The outermost blocks of a configuration. What cannot be read is passed over."""
    root = Block("")
    _fill(root, _tokens(text))
    return root.blocks


def _tokens(text: str) -> Iterator[tuple[bool, str]]:
    """Each word, and whether it is a mark of the syntax."""
    for match in _TOKEN.finditer(text):
        if match.lastgroup is not None:
            yield match.lastgroup == "mark", match.group(match.lastgroup)


def _fill(block: Block, tokens: Iterator[tuple[bool, str]]) -> None:
    name = ""
    for is_mark, word in tokens:
        if not is_mark:
            name = word.lower()
        elif word == "{":
            inner = Block(name)
            block.blocks.append(inner)
            _fill(inner, tokens)
        elif word == "=":
            block.values.setdefault(name, []).extend(_values(tokens))
        elif word == "}":
            return


def _values(tokens: Iterator[tuple[bool, str]]) -> Iterator[str]:
    """The values up to the semicolon."""
    for is_mark, word in tokens:
        if is_mark and word == ";":
            return
        if not is_mark:
            yield word
