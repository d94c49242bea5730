"""The leases of nodes: renewed at each check, and what follows when a node falls silent whose lease ends by itself.

What a node agreed to is written down before it is relied on, and struck out before anything else is asked of it, so that a
controller that takes over knows of a silent node what the one before it knew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from garbi.base.clock import Clock
from garbi.base.errors import FenceFailed, GarbiError, ServerUnreachable, StaleOrder, StorageFailed
from garbi.base.failpoints import reach
from garbi.hyper_api.client import HyperClient
from garbi.iaas.fences.agreements import agreement_of, lengths_of, recall
from garbi.iaas.fences.protocol import Outlook, Proof, Scope
from garbi.iaas.model.event import Subject
from garbi.iaas.model.node import Node
from garbi.iaas.monitor.lateness import LONGEST_DELAY_S, PROMPT_S, Slack, delay_of, lengthened, strained
from garbi.iaas.monitor.lease import (
    PAIR,
    Fellow,
    Fresh,
    Ledger,
    answered,
    asked,
    begun,
    doubt,
    least_margin,
    may_arm,
    quorum,
    renewed,
)
from garbi.iaas.monitor.rivals import RIVAL, rival_reason
from garbi.iaas.store import events, meta, nodes
from garbi.iaas.store.database import Database, Transaction

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Pause between two looks at whether a lease has ended."""

PATIENCE_S = 60.0
"""How long beyond its end a proof is waited for, while the other nodes are heard again."""


class Unrecorded(Exception):
    """What a node agreed to could not be read or written: that says nothing about the node."""


@dataclass(frozen=True, slots=True)
class Lessor:
    """In whose name leases are given. Seconds: `ttl_s` is how long one lasts, `margin_s` how long a host may take to stop what
    runs under it, if that is no less than it must be. `witness_key` is what nodes ask each other with. `boot_id` tells on which
    host the controller lives."""

    controller_id: str
    holder: str
    term: int
    witness_key: str = field(repr=False)
    ttl_s: float = 45.0
    margin_s: float = 20.0
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node said to a check.

    `refused` tells that its lease has ended and that renewing it does not help: it takes a new number. `last_event` is the number
    of its newest event. `load1` and `mem_used` (MiB) are what is in use of the host. `delay_s` is how late it is by itself.
    `unwritable` says why its disk cannot be written, `going_down` that its host ends now, as somebody planned; agents of before
    say neither.
    """

    cluster_id: str
    boot_id: str
    last_event: int
    active: bool
    refused: bool
    load1: float
    mem_used: int
    delay_s: float = 0.0
    unwritable: str = ""
    going_down: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    """A moment that a node told, by its own clock in one boot of its host, while it had the lease of that number."""

    boot_id: str
    moment: float
    number: int


@dataclass(slots=True)
class _Account:
    """What is known of one node. `recorded`: that its lease is armed may be written down; `written`: how long it may be, the
    shortest and the longest, as that is written. `number` is of the lease which this controller has renewed, 0 before it did."""

    address: str
    ledger: Ledger
    recorded: bool
    written: tuple[float, float] | None = None
    seen: _Seen | None = None
    number: int = 0
    silent: bool = False
    guarded: bool = False
    peers_heard: int = 0
    boot_id: str = ""
    slack: Slack = Slack()


class LeaseBook:
    """The leases of all nodes of one controller, for as long as it leads."""

    def __init__(self, database: Database, clock: Clock, lessor: Lessor) -> None:
        self._database = database
        self._clock = clock
        self._lessor = lessor
        self._began = clock.since_boot()
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        self._fresh: dict[str, Fresh] = {}
        self._rivals: dict[str, str] = {}
        self._least_s = lessor.ttl_s
        """The shortest lease that any node may have: as long as half of it, a peer may go without a renewal."""
        self._slack = Slack()
        if lessor.margin_s < least_margin(lessor.ttl_s):
            words = {"margin_s": lessor.margin_s, "ttl_s": lessor.ttl_s, "counts_as_s": least_margin(lessor.ttl_s)}
            log.warning("the margin of leases is too small, and counts as a longer one", extra=words)

    def check(self, node: Node, client: HyperClient, addresses: Collection[str]) -> Answer:
        """Ask a node how it is, and renew its lease; `addresses` are those of all nodes that are watched, this one included.

        One node is checked by one thread at a time. Raises what the request meets; StaleOrder when the node obeys a later
        controller, which its reason says then, or knows of a later lease; Unrecorded.
        """
        account = self._account(node)
        peers = frozenset(addresses) - {node.address}
        try:
            answer = self._renew(node, account, client, peers)
        except GarbiError as error:
            account.silent = True  # it is asked for nothing new until it answers
            if isinstance(error, StaleOrder) and error.extra.get("stale") == "controller":
                self._note_rival(node, error)
            raise
        account.silent = False
        self._forget_rival(node)
        return answer

    def be_late(self, late_s: float) -> None:
        """Take note that this controller itself is late: its nodes must not end for that."""
        with self._lock:
            self._slack = strained(self._slack, self._clock.since_boot(), late_s)

    def forget(self, name: str) -> None:
        """Know nothing more of a node."""
        with self._lock:
            self._accounts.pop(name, None)
            self._rivals.pop(name, None)

    def armed(self, name: str) -> bool:
        """Whether the lease of a node is known to end by itself."""
        with self._lock:
            account = self._accounts.get(name)
            return account is not None and account.ledger.armed

    def doubt(self, name: str) -> str | None:
        """Why it is not proven that a silent node has stopped what runs under its lease; None when it is."""
        now = self._clock.since_boot()
        with self._lock:
            account = self._accounts.get(name)
            if account is None:
                return "nothing was heard of it by this controller"
            found = quorum(account.ledger.peers, self._fresh, now, account.ledger.shortest_s / 2)
            return doubt(account.ledger, found, self._began, self._lessor.margin_s)

    def is_outvoted(self, name: str) -> bool:
        """Whether so few of the other nodes answer that a node, cut off now, might take the controller for dead and go on."""
        now = self._clock.since_boot()
        with self._lock:
            account = self._accounts.get(name)
            if account is None:
                return True
            return quorum(account.ledger.peers, self._fresh, now, account.ledger.shortest_s / 2) is None

    def rival(self) -> str | None:
        """Why nothing may be proven now: most nodes obey another controller, so that what is known here is obsolete.

        One node alone could say so for others to be lost.
        """
        with self._lock:
            rivals = sorted(self._rivals.items())
            obeying = sum(account.number > 0 and not account.silent for account in self._accounts.values())
        return f"node {rivals[0][0]}: {rivals[0][1]}" if len(rivals) > obeying else None

    @property
    def ttl_s(self) -> float:
        """How long a lease usually lasts."""
        return self._lessor.ttl_s

    def longest_s(self, name: str) -> float:
        """How long the lease of a node and what follows may take at most."""
        with self._lock:
            account = self._accounts.get(name)
            ttl_s = self._lessor.ttl_s if account is None else account.ledger.longest_s
        return ttl_s + max(self._lessor.margin_s, least_margin(ttl_s))

    def silence(self, name: str) -> float:
        """For how many seconds a node has said nothing, as far as this controller knows."""
        with self._lock:
            account = self._accounts.get(name)
            heard_at = self._began if account is None else account.ledger.heard_at
        return self._clock.since_boot() - heard_at

    # Helpers in the order in which they are called

    def _note_rival(self, node: Node, error: StaleOrder) -> None:
        """Say so of the node; raises Superseded where the other one leads by this database, too, which is nothing to tell."""
        error.detail = rival_reason(error.detail, self._lessor.term)
        error.args = (error.detail,)
        with _own(), self._database.write() as transaction:
            self._rewrite(transaction, node, error.detail)
        with self._lock:
            news = node.name not in self._rivals
            self._rivals[node.name] = error.detail
        if news:
            log.error("node obeys another controller", extra={"node": node.name, "detail": error.detail})

    def _forget_rival(self, node: Node) -> None:
        with self._lock:
            self._rivals.pop(node.name, None)
        if node.reason.startswith(RIVAL):
            with _own(), self._database.write() as transaction:
                self._rewrite(transaction, node, "")

    def _rewrite(self, transaction: Transaction, node: Node, reason: str) -> None:
        if node.reason != reason and nodes.note_reason(transaction, node.name, reason):
            kind, words = events.Kind.LEASE, reason or "it obeys this controller again"
            events.append(transaction, Subject.NODE, node.name, kind, self._clock.now(), state=node.state, reason=words)

    def _account(self, node: Node) -> _Account:
        with self._lock:
            account = self._accounts.get(node.name)
        if account is None:
            with _own(), self._database.read() as connection:
                record = meta.get(connection, _key(node.name))
            now = self._clock.since_boot()  # nothing is known of what was said before
            ledger = recall(record, node, now)
            with self._lock:
                account = _Account(node.address, ledger or begun(now, False, frozenset(), 0.0), ledger is not None)
                account = self._accounts.setdefault(node.name, account)
                if ledger is not None:
                    self._least_s = min(self._least_s, ledger.shortest_s)
        return account

    def _renew(self, node: Node, account: _Account, client: HyperClient, peers: frozenset[str]) -> Answer:
        arm, ttl_s = self._may_arm(account, peers), self._length(account)
        if account.silent and account.number:
            arm, peers, ttl_s = account.ledger.arm, account.ledger.peers, account.ledger.ttl_s
        ledger = asked(account.ledger, arm, peers, ttl_s)
        if account.recorded and (account.number != node.lease or not ledger.armed):
            with suppress(StorageFailed):  # that is an answer
                client.health()  # what it agreed to stands until it is there to agree anew: it may have just died
        self._ask(node, account, ledger)
        seen = account.seen if account.seen is not None and account.seen.number == node.lease else None
        sent = self._clock.since_boot()
        document = client.leases.renew(self._lessor.controller_id, self._body(node, seen, account.ledger))
        try:
            return self._take(node, account, document, seen, sent)
        except (KeyError, TypeError, ValueError) as error:
            raise ServerUnreachable(f"what answers there is not a hyper of this version: {error!r}") from error

    def _length(self, account: _Account) -> float:
        """How long the next lease of a node is: longer where the host, or this controller, is late by itself."""
        now = self._clock.since_boot()
        late_s = max(delay_of(account.slack, now), delay_of(self._slack, now))
        return lengthened(self._lessor.ttl_s, late_s)

    def _may_arm(self, account: _Account, peers: frozenset[str]) -> bool:
        fellow = self._fellow(account, *peers) if len(peers) + 1 == PAIR else None
        return may_arm(len(peers) + 1, account.guarded, account.peers_heard, fellow)

    def _fellow(self, account: _Account, address: str) -> Fellow | None:
        """What is known of the other one of two nodes, at that address."""
        with self._lock:
            other = next((each for each in self._accounts.values() if each.address == address), None)
            if other is None or other.number == 0:
                return None
            return Fellow(
                answers=not other.silent,
                hears=other.peers_heard > 0 and other.ledger.peers == {account.address},
                apart=self._lessor.boot_id not in (account.boot_id, other.boot_id),
            )

    def _ask(self, node: Node, account: _Account, ledger: Ledger) -> None:
        """Note what is asked of a node before it is: struck out where it is to agree anew, else written."""
        if account.number == node.lease and ledger is account.ledger:
            return
        if account.recorded and account.number == node.lease and ledger.armed:
            self._record(node, account, ledger)  # of another length; it ends by itself as before
        elif account.recorded:
            with _own(), self._database.write() as transaction:
                meta.put(transaction, _key(node.name), "")
            account.recorded, account.written = False, None
            reach("lease.record.struck")
        with self._lock:
            if account.number != node.lease:
                ledger = begun(ledger.heard_at, ledger.arm, ledger.peers, ledger.ttl_s)
            account.number = node.lease
            account.ledger = ledger

    def _body(self, node: Node, seen: _Seen | None, ledger: Ledger) -> dict[str, Any]:
        return {
            "term": self._lessor.term,
            "holder": self._lessor.holder,
            "number": node.lease,
            "ttl_s": ledger.ttl_s,
            "seen": None if seen is None else {"boot_id": seen.boot_id, "moment": seen.moment},
            "arm": ledger.arm,
            "peers": sorted(ledger.peers),
            "witness_key": self._lessor.witness_key,
        }

    def _take(
        self, node: Node, account: _Account, document: Mapping[str, Any], seen: _Seen | None, sent: float
    ) -> Answer:
        boot_id, moment, armed = str(document["boot_id"]), float(document["moment"]), document["armed"] is True
        active, now = document["active"] is True, self._clock.since_boot()
        answer = Answer(
            cluster_id=str(document["cluster_id"]),
            boot_id=boot_id,
            last_event=int(document["last_event"]),
            active=active,
            refused=not active and seen is not None and seen.boot_id == boot_id,
            load1=float(document["load1"]),
            mem_used=int(document["mem_used"]),
            delay_s=min(max(float(document.get("delay_s") or 0.0), now - sent - PROMPT_S), LONGEST_DELAY_S),
            unwritable=str(document.get("unwritable") or ""),
            going_down=document.get("going_down") is True,
        )
        if node.cluster_id and answer.cluster_id != node.cluster_id:
            # A stranger's word about its lease is worth nothing; but what it was told is where the watchdog of the host reads.
            with self._lock:
                account.ledger = replace(account.ledger, heard_at=now, confirmed=0, told=0)
            return answer
        account.slack = strained(account.slack, now, answer.delay_s)
        account.seen, account.boot_id = _Seen(boot_id, moment, node.lease), boot_id
        account.guarded, account.peers_heard = document["guarded"] is True, int(document["peers_heard"])
        with self._lock:
            account.ledger = answered(account.ledger, now, armed)
            fresh = Fresh(now, sent, boot_id, moment)
            self._fresh[node.address] = renewed(self._fresh.get(node.address), now, fresh, self._least_s / 2)
        if account.ledger.armed and account.written != lengths_of(account.ledger):
            self._record(node, account, account.ledger)
        return answer

    def _record(self, node: Node, account: _Account, ledger: Ledger) -> None:
        """Write down what a node agreed to, for who leads after this controller."""
        record = agreement_of(node, ledger)
        account.recorded = True
        with _own(), self._database.write() as transaction:
            meta.put(transaction, _key(node.name), record)
        account.written = lengths_of(ledger)
        reach("lease.record.written")


class LeaseFence:
    """The proof that needs nothing of the host: its lease has ended, and with it what runs under it."""

    name = "lease"

    def __init__(self, book: LeaseBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock

    def applies_to(self, node: Node) -> str | None:
        """Whether the node agreed that its lease ends by itself."""
        if self._book.armed(node.name):
            return None
        return "its lease does not end by itself (that takes another node that heard it when it fell silent, and a watchdog)"

    def outlook(self, node: Node) -> Outlook:
        """It covers what may be created again, as long after the last answer as the lease and what follows it may take."""
        why_not = "too few of the other nodes answer" if self._book.is_outvoted(node.name) else ""
        return Outlook(Scope.RECREATABLE, self._book.longest_s(node.name) + LOOK_S, since_heard=True, why_not=why_not)

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        """Wait until the lease has ended for certain. Raises FenceFailed when that is not to be expected."""
        deadline: float | None = None
        while True:
            left = self._book.doubt(node.name)
            if left is None:
                words = f"nobody renewed its lease for {self._book.silence(node.name):.0f} s, and it ends by itself"
                return Proof(self.name, Scope.RECREATABLE, words)
            now = self._clock.monotonic()
            deadline = now + self._book.longest_s(node.name) + PATIENCE_S if deadline is None else deadline
            if cancelled.is_set() or now >= deadline or not self._book.armed(node.name):
                raise FenceFailed(left)
            cancelled.wait(LOOK_S)


@contextmanager
def _own() -> Iterator[None]:
    try:
        yield
    except GarbiError as error:
        raise Unrecorded(error.detail) from error


def _key(name: str) -> str:
    return f"lease:{name}"
