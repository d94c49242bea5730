"""What forwarding needs beside our own table: the kernel's switches, and a way through the firewalls of others.

A packet that any firewall of the host drops is lost, whatever our table says. Docker sets the policy of the FORWARD chain
to DROP; ufw and others that of INPUT. So rules that accept the guests' bridges are put there, each with a comment of ours.
"""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from garbi.base.programs import find_program

_log = logging.getLogger(__name__)

_SYSCTL = Path("/proc/sys/net/ipv4")
_INTERFACES = Path("/sys/class/net")
_BRIDGED_PACKETS_PASS_IPTABLES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_DOCKER_BRIDGE = re.compile(r"(docker0|docker_gwbridge|br-[0-9a-f]{12})\Z")


@dataclass(frozen=True, slots=True)
class Passage:
    """One rule of ours in a chain of somebody else's."""

    chain: str
    match: tuple[str, ...]
    comment: str

    def words(self) -> list[str]:
        return [self.chain, *self.match, "-m", "comment", "--comment", self.comment, "-j", "ACCEPT"]


class Passages:
    """The rules of one agent in iptables' filter table, marked by a comment that begins with `mark`."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def open(self, bridges: Sequence[str]) -> bool:
        """Let these bridges, and no others, through where something could stop them; return whether it took a change."""
        present = _list_filter()
        wanted = {rule.comment: rule for rule in _wanted(self._mark, bridges, present)}
        ours = self._ours(present)
        stale = [words for comment, words in ours if comment not in wanted]
        found = {comment for comment, _ in ours}
        missing = [rule for comment, rule in wanted.items() if comment not in found]
        for words in stale:
            _iptables("-D", *words)
        for rule in missing:
            _iptables("-I", *rule.words())
        return bool(stale or missing)

    def close(self) -> None:
        """Take every rule of ours away."""
        for _, words in self._ours(_list_filter()):
            _iptables("-D", *words)

    def _ours(self, lines: Iterable[str]) -> list[tuple[str, list[str]]]:
        found: list[tuple[str, list[str]]] = []
        for line in lines:
            words = shlex.split(line) if self._mark in line else []
            comment = words[words.index("--comment") + 1] if "--comment" in words else ""
            if comment.startswith(f"{self._mark}:"):
                found.append((comment, words[1:]))
        return found


def switch_on(bridges: Iterable[str]) -> None:
    """Let the kernel forward, and let it lead 127.0.0.1 to these bridges. Those not there yet are left out.

    Where bridged packets pass iptables (Docker makes it so), a guest reaches its own published port only if the bridge may send
    a packet back to where it came from.
    """
    _set(_SYSCTL / "ip_forward", "1")
    for bridge in bridges:
        _set(_SYSCTL / "conf" / bridge / "route_localnet", "1")
        if _reads(_BRIDGED_PACKETS_PASS_IPTABLES) == "1":
            for port in (_INTERFACES / bridge / "brif").glob("*"):
                _set(port / "hairpin_mode", "1")


def switch_off(bridges: Iterable[str]) -> None:
    """Undo what `switch_on` did to these bridges; forwarding stays, others may rely on it."""
    for bridge in bridges:
        _set(_SYSCTL / "conf" / bridge / "route_localnet", "0")


def docker_bridges() -> list[str]:
    """The bridges of Docker's networks, by the names that Docker gives them."""
    names = (entry.name for entry in _INTERFACES.iterdir() if (entry / "bridge").is_dir())
    return sorted(name for name in names if _DOCKER_BRIDGE.match(name))


def _wanted(mark: str, bridges: Sequence[str], lines: Sequence[str]) -> list[Passage]:
    rules: list[Passage] = []
    if forward := _chain_to_pass(lines):
        for bridge in bridges:
            rules.append(Passage(forward, ("-i", bridge), f"{mark}:from:{bridge}:{forward}"))
            rules.append(Passage(forward, ("-o", bridge), f"{mark}:to:{bridge}:{forward}"))
    if _may_stop("INPUT", lines):
        for bridge in bridges:
            rules.append(Passage("INPUT", ("-i", bridge, "-p", "udp", "--dport", "67"), f"{mark}:dhcp:{bridge}"))
            rules.append(Passage("INPUT", ("-i", bridge, "-p", "udp", "--dport", "53"), f"{mark}:dns:{bridge}"))
            rules.append(Passage("INPUT", ("-i", bridge, "-p", "tcp", "--dport", "53"), f"{mark}:dns-tcp:{bridge}"))
    return rules


def _chain_to_pass(lines: Sequence[str]) -> str | None:
    if any(line.startswith("-A FORWARD ") and line.endswith("-j DOCKER-USER") for line in lines):
        return "DOCKER-USER"
    return "FORWARD" if _may_stop("FORWARD", lines) else None


def _may_stop(chain: str, lines: Sequence[str]) -> bool:
    """A chain that accepts by policy and has no rules but garbi's stops nothing."""
    others = [line for line in lines if line.startswith(f"-A {chain} ") and "garbi" not in line]
    return bool(others) or f"-P {chain} DROP" in lines


def _list_filter() -> list[str]:
    return _iptables("-S").splitlines()


def _iptables(*words: str) -> str:
    """Run iptables; without it there is nothing to pass. What it refuses is logged: the next `apply` tries again."""
    tool = find_program("iptables")
    if tool is None:
        return ""
    try:
        answer = subprocess.run([tool, "-w", "5", *words], capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("iptables %s: %s", " ".join(words), error)
        return ""
    if answer.returncode:
        _log.warning("iptables %s: %s", " ".join(words), answer.stderr.strip())
    return answer.stdout


def _set(path: Path, value: str) -> None:
    if _reads(path) not in (None, value):
        try:
            path.write_text(value)
        except FileNotFoundError:
            return
        except OSError as error:
            _complain(path, value, error.strerror)


@cache
def _complain(path: Path, value: str, why: str) -> None:
    """Once is enough for what is tried again every few seconds."""
    _log.warning("%s cannot be set to %s: %s", path, value, why)


def _reads(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
