"""Whether the image directory is exported to the nodes and to nobody else: what `iaas doctor` says of the NFS server.

Understood are the kernel's server (`exportfs -v`) and NFS-Ganesha (its configuration). An export for images is read-only,
makes nobody of every user, asks for a privileged port, and names the nodes one by one.
"""

from __future__ import annotations

import ipaddress
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from garbi.base.errors import InvalidField
from garbi.base.programs import find_program
from garbi.iaas.imagestore.ganesha import Block, read_blocks

GANESHA_CONFIGURATION = Path("/etc/ganesha/ganesha.conf")
WORLD = ("*", "<world>", "0.0.0.0/0", "::/0")
OPTIONS = "ro,sync,secure,root_squash,all_squash,subtree_check"
EXPORTFS_WAIT_S = 20
_CLIENT = re.compile(r"(\S+?)\(([^)]*)\)\s*\Z")


@dataclass(frozen=True, slots=True)
class Export:
    """A directory that `client` may read: an address, a network, a name, or one of WORLD."""

    path: str
    client: str
    read_only: bool
    root_squash: bool
    all_squash: bool
    privileged_port: bool


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the export, and how to mend it."""

    problem: str
    mend: str


def find_flaws(exports: Iterable[Export], directory: Path, nodes: Sequence[str]) -> list[Flaw]:
    """What is wrong with the export of `directory` to the nodes, given by their addresses; nothing, when all is well."""
    own = [each for each in exports if _covers(each.path, directory)]
    mend = f"in /etc/exports: {exports_line(directory, nodes)}; then: exportfs -ra"
    if not own:
        return [Flaw(f"{directory} is not exported, and nodes are to mount it", mend)]
    problems = [problem for each in own for problem in _problems(each, directory, nodes)]
    problems += [f"{node} is a node, and may not read {directory}" for node in nodes if not _may_read(own, node)]
    return [Flaw(problem, mend) for problem in dict.fromkeys(problems)]


def exports_line(directory: Path, nodes: Sequence[str]) -> str:
    """The line of /etc/exports that lets the nodes, given by their addresses, read the directory, and nobody else."""
    words = [f"{_checked_client(node)}({OPTIONS})" for node in nodes] or [f"ADDRESS-OF-A-NODE({OPTIONS})"]
    return " ".join([_quoted(str(directory)), *words])


def ganesha_export(directory: Path, nodes: Sequence[str], number: int = 1) -> str:
    """The same for NFS-Ganesha: a block of its configuration. `number` is the export's, of which each has its own."""
    clients = ", ".join(_checked_client(node) for node in nodes) or "ADDRESS-OF-A-NODE"
    return f"""EXPORT {{
    Export_Id = {number};
    Path = {_quoted(str(directory))};
    Pseudo = {_quoted(str(directory))};
    Access_Type = None;
    Protocols = 3, 4;
    Transports = TCP;
    SecType = sys;
    FSAL {{ Name = VFS; }}
    CLIENT {{
        Clients = {clients};
        Access_Type = RO;
        Squash = All_Squash;
        PrivilegedPort = true;
    }}
}}
"""


def present_exports() -> list[Export]:
    """What the servers of this host export now; nothing where none is installed."""
    found: list[Export] = []
    program = find_program("exportfs")
    if program is not None:
        with suppress(OSError, subprocess.TimeoutExpired):
            command = [program, "-v"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=EXPORTFS_WAIT_S)
            found += read_exportfs(done.stdout)
    if GANESHA_CONFIGURATION.is_file():
        found += read_ganesha(GANESHA_CONFIGURATION.read_text("utf-8", "replace"))
    return found


def read_exportfs(text: str) -> list[Export]:
    """The exports in the output of `exportfs -v`; a long path has its client on the next line."""
    found: list[Export] = []
    path = ""
    for line in text.splitlines():
        matched = _CLIENT.search(line)
        head = line[: matched.start()] if matched else line
        if head.strip():
            path = _unescaped(head.strip())
        if matched and path:
            found.append(_from_options(path, matched.group(1), matched.group(2).split(",")))
    return found


def read_ganesha(text: str) -> list[Export]:
    """The exports in a configuration of NFS-Ganesha. What an export allows to all is an export to the world."""
    blocks = read_blocks(text)
    defaults: dict[str, list[str]] = {}
    for block in blocks:
        if block.name == "export_defaults":
            defaults |= block.values
    return [export for block in blocks if block.name == "export" for export in _from_block(block, defaults)]


# Helpers in the order in which they are called


def _covers(path: str, directory: Path) -> bool:
    return directory == Path(path) or directory.is_relative_to(path)


def _problems(export: Export, directory: Path, nodes: Sequence[str]) -> Iterator[str]:
    what = f"the export of {export.path} to {export.client}"
    if Path(export.path) != directory:
        yield f"{export.path} is exported, and with it more than the images"
    if _is_world(export.client):
        yield f"{export.path} is exported to the world: name the nodes"
    elif nodes and not any(_matches(export.client, node) for node in nodes):
        yield f"{what}: no node has that address"
    if not export.read_only:
        yield f"{what} can be written (rw): whoever does so replaces what machines start from"
    if not export.root_squash:
        yield f"{what} lets a node's root be root here (no_root_squash)"
    if not export.all_squash:
        yield f"{what} believes the users that a node names (not all_squash)"
    if not export.privileged_port:
        yield f"{what} answers any user of a node (insecure)"


def _is_world(client: str) -> bool:
    if client in WORLD or client.startswith("*") or client.strip("*.?") == "":
        return True
    network = _network(client)
    return network is not None and network.prefixlen == 0


def _may_read(exports: Iterable[Export], node: str) -> bool:
    return any(_is_world(each.client) or _matches(each.client, node) for each in exports)


def _matches(client: str, node: str) -> bool:
    network, address = _network(client), _network(node)
    if network is None or address is None:
        return client == node
    return network.version == address.version and address.subnet_of(network)  # type: ignore[arg-type]


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _checked_client(node: str) -> str:
    """Nothing but an address or a name of a host goes into a server's configuration."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?|::1", node):
        raise InvalidField("address", f"{node[:80]!r} is neither an address nor the name of a host")
    return node


def _quoted(path: str) -> str:
    if any(not char.isprintable() or char in '"\\' for char in path):
        raise InvalidField("data_dir", f"{path!r} has characters that cannot be exported")
    return f'"{path}"' if " " in path else path


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), path.strip('"'))


def _from_options(path: str, client: str, options: Sequence[str]) -> Export:
    return Export(
        path,
        client,
        read_only="rw" not in options,
        root_squash="no_root_squash" not in options,
        all_squash="all_squash" in options,
        privileged_port="insecure" not in options,
    )


def _from_block(block: Block, defaults: dict[str, list[str]]) -> Iterator[Export]:
    path = " ".join(block.values.get("path", []))
    values = {**defaults, **block.values}
    if _allows(values):
        yield _from_values(path, "*", values)
    for client in block.blocks:
        own = {**values, **client.values}
        if client.name == "client" and _allows(own):
            for name in client.values.get("clients", []):
                yield _from_values(path, name, own)


def _allows(values: dict[str, list[str]]) -> bool:
    return _first(values, "access_type", "none") != "none"


def _from_values(path: str, client: str, values: dict[str, list[str]]) -> Export:
    squash = _first(values, "squash", "root_squash").replace("_", "")
    everybody = squash in ("all", "allsquash", "allanonymous")
    return Export(
        path,
        client,
        read_only=_first(values, "access_type", "none") in ("ro", "mdonly_ro"),
        root_squash=everybody or squash in ("root", "rootsquash", "rootid", "rootidsquash"),
        all_squash=everybody,
        privileged_port=_first(values, "privilegedport", "false") in ("true", "yes", "1"),
    )


def _first(values: dict[str, list[str]], name: str, default: str) -> str:
    return next(iter(values.get(name, [])), default).lower()
