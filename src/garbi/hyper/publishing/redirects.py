"""Ports that somebody's iptables rules lead elsewhere, which no socket shows."""

from __future__ import annotations

import shlex
import subprocess

from garbi.base.programs import find_program
from garbi.hyper.model.machine import Protocol

_TARGETS = {"DNAT": "--to-destination", "REDIRECT": "--to-ports"}


def read_rules() -> str:
    """The host's NAT rules as `iptables-save` tells them; empty without iptables, or without the right to look."""
    tool = find_program("iptables-save")
    if tool is None:
        return ""
    try:
        return subprocess.run([tool, "-t", "nat"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def find_redirect(rules: str, protocol: Protocol, port: int) -> str | None:
    """Where the first DNAT or REDIRECT rule for this port leads, or None."""
    for line in rules.splitlines():
        if line.startswith("-A ") and ("DNAT" in line or "REDIRECT" in line):
            words = shlex.split(line)
            target = _option(words, "-j")
            if target in _TARGETS and _option(words, "-p") == protocol and _covers(words, port):
                return _option(words, _TARGETS[target]) or "another port"
    return None


def _covers(words: list[str], port: int) -> bool:
    wanted = _option(words, "--dport") or _option(words, "--dports")
    return wanted is not None and any(_in_range(part, port) for part in wanted.split(","))


def _in_range(text: str, port: int) -> bool:
    first, _, last = text.partition(":")
    try:
        return int(first or 0) <= port <= int(last or first)
    except ValueError:
        return False


def _option(words: list[str], name: str) -> str | None:
    """The value of an option, unless it is negated."""
    if name not in words:
        return None
    place = words.index(name)
    return words[place + 1] if place + 1 < len(words) and words[place - 1] != "!" else None
