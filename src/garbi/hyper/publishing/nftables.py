"""The nftables table that leads published ports to machines with an address, kept as the agent wants it."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from garbi.base.errors import DriverFailed, DriverUnavailable
from garbi.base.failpoints import reach
from garbi.base.programs import find_program
from garbi.hyper.drivers.protocol import GuestNetwork
from garbi.hyper.model.machine import Protocol
from garbi.hyper.publishing import forwarding, ruleset
from garbi.hyper.publishing.conntrack import Key, forget_flows
from garbi.hyper.publishing.ruleset import Lead

__all__ = ["Lead", "PublishingTable"]

_MEND = "apt-get install nftables"


class PublishingTable:
    """The table of one agent, named after its cluster id; other agents and firewalls of the host are left alone.

    Safe to use from several threads. Calling `apply` again and again is meant: it costs two short commands while the kernel
    has what is wanted, and mends what others flushed.
    """

    def __init__(self, cluster_id: str) -> None:
        self.name = f"garbi_{int(cluster_id[:8], 16):08x}"
        self._passages = forwarding.Passages(self.name)
        self._lock = threading.Lock()
        self._written: str | None = None
        self._listed: dict[str, Any] | None = None

    def apply(self, networks: Sequence[GuestNetwork], leads: Sequence[Lead]) -> bool:
        """Make the host lead exactly these ports to these networks; return whether anything had to be changed.

        Raises DriverUnavailable when nftables is missing or may not be used, DriverFailed when it refuses.
        """
        bridges = [ruleset.check_interface(network.bridge) for network in networks]
        with self._lock:
            changed = self._write(networks, leads)
            forwarding.switch_on(bridges)
            return self._passages.open(bridges) or changed

    def leads(self) -> dict[Key, Lead]:
        """Where ports lead by the kernel's own account; raises what `apply` raises."""
        with self._lock:
            return _leads(self._list())

    def clear(self) -> None:
        """Remove the table and every rule of ours elsewhere. Nothing happens when there is none."""
        with self._lock:
            listed = self._list()
            forwarding.switch_off(_bridges(listed))
            self._passages.close()
            if listed is not None:
                _nft("-f", "-", script=ruleset.removal_text(self.name))
                forget_flows(_leads(listed).keys(), _leads(listed), {})
            self._written = self._listed = None

    def _write(self, networks: Sequence[GuestNetwork], leads: Sequence[Lead]) -> bool:
        """Write the table unless the kernel still has what was written last, which was the same."""
        listed = self._list()
        frame = ruleset.table_text(self.name, networks, [], forwarding.docker_bridges())
        wanted = {(lead.protocol, lead.node_port): lead for lead in leads}
        former = _leads(listed)
        intact = frame == self._written and listed is not None and _frame(listed) == self._listed
        if intact and former == wanted:
            return False
        if intact:
            script = ruleset.leads_text(self.name, wanted.values())
        else:
            script = ruleset.table_text(self.name, networks, wanted.values(), forwarding.docker_bridges())
        _nft("-f", "-", script=script)
        if former != wanted:
            reach("ports.led")
        self._written, self._listed = frame, _frame(self._list())
        forget_flows(_changed(former, wanted), former, wanted)
        return True

    def _list(self) -> dict[str, Any] | None:
        """The kernel's own account of the table, or None when there is none."""
        answer = _nft("-j", "list", "table", "inet", self.name, missing_is_fine=True)
        return json.loads(answer) if answer else None


def _changed(former: dict[Key, Lead], present: dict[Key, Lead]) -> set[Key]:
    return {key for key in former.keys() | present.keys() if former.get(key) != present.get(key)}


def _frame(listed: dict[str, Any] | None) -> dict[str, Any] | None:
    """The account without what differs between two tables that do the same: handles, and the leads."""
    if listed is None:
        return None
    return {"nftables": [_stripped(entry) for entry in listed["nftables"] if "metainfo" not in entry]}


def _stripped(entry: dict[str, Any]) -> dict[str, Any]:
    skipped = ("handle", "elem")
    return {kind: {name: value for name, value in body.items() if name not in skipped} for kind, body in entry.items()}


def _leads(listed: dict[str, Any] | None) -> dict[Key, Lead]:
    """Where ports lead by the kernel's account, which also tells a restarted agent what it wrote before."""
    maps = [entry["map"] for entry in (listed or {}).get("nftables", []) if "map" in entry]
    found: dict[Key, Lead] = {}
    for key, value in (element for table in maps for element in table.get("elem", [])):
        protocol, node_port = key["concat"]
        address, machine_port = value["concat"]
        found[Protocol(protocol), node_port] = Lead(Protocol(protocol), node_port, address, machine_port)
    return found


def _bridges(listed: dict[str, Any] | None) -> list[str]:
    """The bridges that the `leaving` chain of the kernel's account names."""
    rules = [entry["rule"] for entry in (listed or {}).get("nftables", []) if "rule" in entry]
    parts = [part for rule in rules if rule["chain"] == "leaving" for part in rule["expr"]]
    matches = [part["match"] for part in parts if "match" in part]
    names = [match["right"] for match in matches if match["left"] == {"meta": {"key": "oifname"}}]
    return sorted({name for name in names if isinstance(name, str)})


def _nft(*words: str, script: str = "", missing_is_fine: bool = False) -> str:
    tool = find_program("nft")
    if tool is None:
        raise DriverUnavailable(f"nftables is not installed, so no port can be led to a machine: {_MEND}")
    try:
        answer = subprocess.run([tool, *words], input=script, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverUnavailable(f"nft does not answer: {error}") from error
    if answer.returncode == 0:
        return answer.stdout
    complaint = answer.stderr.strip()
    if missing_is_fine and "No such file or directory" in complaint:
        return ""
    if "not permitted" in complaint:
        raise DriverUnavailable(
            "nft may not change the firewall: run the agent as root to publish ports of such machines"
        )
    raise DriverFailed(f"nft refuses the table of published ports: {complaint[:500]}")
