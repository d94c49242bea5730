"""How hosts are spoken to: the options of every SSH connection, and the first look at a host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garbi.iaas.provisioning.sandbox import INSIDE
from garbi.iaas.provisioning.target import Target

KNOWN_HOSTS, KEY, SCRIPT = "known_hosts", "key", "examine.sh"
CONNECT_TIMEOUT_S = 15
ARCHITECTURES = ("x86_64", "aarch64")
PYTHONS = {"bookworm": "3.11", "trixie": "3.13", "noble": "3.12", "plucky": "3.13", "questing": "3.13"}
"""The Python that a release brings, for a host where none is installed yet."""

EXAMINE = r"""
export LC_ALL=C
say() { printf 'garbi %s %s\n' "$1" "$2"; }
. /etc/os-release
say architecture "$(uname -m)"
say id "$ID"
say like "$ID_LIKE"
say codename "$VERSION_CODENAME"
say address "$(printf '%s' "$SSH_CONNECTION" | cut -d ' ' -f 3)"
say python "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
say systemd "$([ -d /run/systemd/system ] && echo yes)"
if [ "$(id -u)" = 0 ]; then say root yes
elif said=$(sudo -n true 2>&1); then say root sudo
else say root "no: ${said:-sudo is not installed}"
fi
"""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection waits for a host: to let us in, and `alive_times` times for a sign of life."""

    connect_s: int = CONNECT_TIMEOUT_S
    alive_interval_s: int = 5
    alive_times: int = 6


USUAL = Patience()
"""A host that dies is missed after half a minute."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a host says of itself, as far as it can be believed: every field is one of a few words."""

    architecture: str
    codename: str
    address: str
    python: str
    sudo: bool


class UnfitHost(Exception):
    """A host that cannot become a node, and why."""


def options(target: Target, patience: Patience = USUAL) -> list[str]:
    """The options of ssh: our own known hosts and never another key, nothing forwarded, no configuration of a user."""
    settings = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(INSIDE / KNOWN_HOSTS),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        "ConnectTimeout": str(patience.connect_s),
        "ServerAliveInterval": str(patience.alive_interval_s),
        "ServerAliveCountMax": str(patience.alive_times),
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "LogLevel": "ERROR",
    }
    if target.ssh.key_file is not None:
        settings |= {"IdentitiesOnly": "yes", "IdentityAgent": "none", "IdentityFile": str(INSIDE / KEY)}
    words = ["-F", "none"]
    for name, value in settings.items():
        words += ["-o", f"{name}={value}"]
    return words


def keys_of_user(target: Target) -> list[Path]:
    """What a connection may see of the user's own keys: nothing when one was named."""
    return [] if target.ssh.key_file is not None else [Path.home() / ".ssh"]


def examine_command(target: Target) -> list[str]:
    """The command that runs EXAMINE, which is its input, on the host."""
    return command(target, "sh")


def command(target: Target, remote: str, patience: Patience = USUAL) -> list[str]:
    """The command that has the host's shell run `remote`, with our input as its input."""
    place = ["-p", str(target.ssh.port), "-l", target.ssh.user]
    return ["ssh", *options(target, patience), "-T", *place, "--", target.host, remote]


def read_answer(output: str) -> Host:
    """What the host answered; raises UnfitHost, which says what is missing."""
    said = dict(re.findall(r"^garbi ([a-z]+) (.{0,200})$", output, re.MULTILINE))
    root = said.get("root", "")
    if root not in ("yes", "sudo"):
        raise UnfitHost(f"the user is not root and may not become root without a password ({root})")
    if "debian" not in (said.get("id"), *said.get("like", "").split()):
        raise UnfitHost("only Debian, Ubuntu and their kin can become nodes")
    if said.get("systemd") != "yes":
        raise UnfitHost("systemd does not run there")
    codename = said.get("codename", "")
    python = said.get("python") or PYTHONS.get(codename, "")
    _demand_python(python)
    return Host(
        _one_of(said.get("architecture", ""), ARCHITECTURES, "processor"),
        codename if re.fullmatch(r"[a-z]{1,20}", codename) else "",
        _address(said.get("address", "")),
        python,
        sudo=root == "sudo",
    )


def _demand_python(python: str) -> None:
    if not re.fullmatch(r"3\.[0-9]{1,2}", python):
        raise UnfitHost("it has no Python, and its release is not one whose Python is known: install python3")
    if int(python.partition(".")[2]) < 11:
        raise UnfitHost(f"its Python is {python}; hyper needs 3.11 or later (Debian 12, Ubuntu 24.04)")


def _one_of(word: str, allowed: Sequence[str], what: str) -> str:
    if word not in allowed:
        raise UnfitHost(f"its {what} is not one of {', '.join(allowed)}")
    return word


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise UnfitHost("it does not say at which address SSH reached it") from None
