"""What is known of a controller's lease, what a renewal asks for, and what becomes of the one by the other.

Values and decisions, no I/O. Moments are seconds since the boot of this host, its sleep included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from garbi.base.errors import InvalidField, StaleOrder

CONTROLLER_FORM = re.compile(r"[0-9a-f]{32}\Z")
_HOLDER_FORM = re.compile(r"[0-9a-f]{1,32}\Z")
_KEY_FORM = re.compile(r"[A-Za-z0-9._~+/-]{16,256}={0,2}\Z")
_PEER_FORM = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):([0-9]{1,5})\Z")
MAX_PEERS = 1000


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a controller asks for. `seen` is the moment that the host itself told in an earlier answer, in boot `seen_boot`.

    `peers` are the addresses (host:port) of all other nodes, `witness_key` is what they answer each other for.
    """

    controller: str
    holder: str
    term: int
    number: int
    ttl_s: float
    arm: bool = False
    seen: float | None = None
    seen_boot: str = ""
    peers: tuple[str, ...] = ()
    witness_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Lease:
    """What the host knows of one controller's lease.

    `fenced` is the last number that was ended for good. `seen` is the newest moment of this host that the controller is known to
    have seen, `renewed` the one at which it was last heard, both in boot `boot_id`. An armed lease ends by itself.
    """

    controller: str
    holder: str = ""
    term: int = 0
    number: int = 0
    fenced: int = 0
    boot_id: str = ""
    ttl_s: float = 0.0
    armed: bool = False
    seen: float | None = None
    renewed: float | None = None
    peers: tuple[str, ...] = ()
    witness_key: str = field(default="", repr=False)

    @property
    def expiry(self) -> float | None:
        """The moment at which the lease ends unless it is renewed; None when the controller has seen nothing yet."""
        return None if self.seen is None else self.seen + self.ttl_s

    @property
    def nodes(self) -> int:
        """How many nodes the cloud has, this one included."""
        return len(self.peers) + 1


def check(renewal: Renewal) -> None:
    """Raise InvalidField, which names the field, when a renewal cannot be understood."""
    if not CONTROLLER_FORM.match(renewal.controller):
        raise _invalid("controller", "the id of a controller: 32 digits of lower-case hexadecimal")
    if not _HOLDER_FORM.match(renewal.holder):
        raise _invalid("holder", "1 to 32 digits of lower-case hexadecimal")
    if not _KEY_FORM.match(renewal.witness_key):
        raise _invalid("witness_key", "16 to 256 letters, digits or characters of ._~+/-")


def check_peers(renewal: Renewal) -> Renewal:
    """The renewal with each peer once; raises InvalidField for one that is no address."""
    for index, peer in enumerate(renewal.peers):
        found = _PEER_FORM.match(peer)
        if found is None or not 1 <= int(found[1]) <= 65535:
            raise _invalid(f"peers.{index}", "the address of a node: host:port")
    return replace(renewal, peers=tuple(dict.fromkeys(renewal.peers)))


def refuse_stale(known: Lease | None, renewal: Renewal) -> None:
    """Raise StaleOrder when a later controller, or a later lease, was heard."""
    if known is None:
        return
    if renewal.term < known.term or (renewal.term == known.term and renewal.holder != known.holder):
        who = "another process" if renewal.term == known.term else "a later one"
        raise StaleOrder(
            f"controller {renewal.controller} is heard here in term {known.term}, {who}", stale="controller"
        )
    if renewal.number < known.number:
        raise StaleOrder(f"lease {renewal.number} was followed by lease {known.number}", stale="lease")


def renew(known: Lease | None, renewal: Renewal, boot_id: str, now: float, guarded: bool) -> Lease:
    """The lease after a renewal that is not stale.

    A message that comes late, or twice, has seen no later moment than one before it: it shows that the controller lives, and
    neither extends the lease nor changes what a later one said. One that has seen an earlier boot was meant for machines that
    run no more: it begins nothing, and is answered only, so that the next one has seen this boot.
    """
    if renewal.seen_boot not in ("", boot_id):
        same = known is not None and (known.boot_id == boot_id or _identity(known) == _identity(renewal))
        return known if known is not None and same else _begun(known, renewal, "")
    base = known
    if base is None or not _continues(base, renewal, boot_id):
        base = _begun(base, renewal, boot_id)
    seen = renewal.seen if renewal.seen_boot == boot_id and renewal.seen is not None and renewal.seen <= now else None
    if base.seen is not None and (seen is None or seen <= base.seen):
        return replace(base, renewed=now)
    return replace(
        base,
        ttl_s=renewal.ttl_s,
        armed=renewal.arm and seen is not None and (guarded or base.armed),  # a watchdog that is away comes back
        seen=seen,
        renewed=now,
        peers=renewal.peers,
        witness_key=renewal.witness_key,
    )


def _begun(known: Lease | None, renewal: Renewal, boot_id: str) -> Lease:
    fenced = 0 if known is None else known.fenced
    return Lease(renewal.controller, renewal.holder, renewal.term, renewal.number, fenced, boot_id)


def _continues(base: Lease, renewal: Renewal, boot_id: str) -> bool:
    return base.boot_id == boot_id and _identity(base) == _identity(renewal)


def _identity(of: Lease | Renewal) -> tuple[int, str, int]:
    return of.term, of.holder, of.number


def _invalid(field_name: str, rule: str) -> InvalidField:
    return InvalidField(field_name, f"{field_name} takes {rule}", allowed=rule)
