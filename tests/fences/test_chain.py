"""The fences one after the other: the first proof counts, what gave none is told, nothing that breaks proves anything."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.fences.nodes import a_node

from garbi.base.errors import FenceFailed
from garbi.iaas.fences.protocol import Attempt, Fences, Proof, Scope, explain
from garbi.iaas.model.node import Node

PROOF = Proof("second", Scope.ALL, "it is off")


class Scripted:
    """A fence that does as it is told, and remembers whether it was asked."""

    def __init__(self, name: str, prove: Callable[[], Proof], why_not: str | None = None) -> None:
        self.name, self._prove, self._why_not, self.asked = name, prove, why_not, False

    def applies_to(self, node: Node) -> str | None:
        return self._why_not

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        self.asked = True
        return self._prove()


def refuse() -> Proof:
    raise FenceFailed("no\nanswer")


def test_the_first_proof_ends_the_chain() -> None:
    last = Scripted("last", refuse)
    fences = Fences([Scripted("first", refuse), Scripted("second", lambda: PROOF), last])
    assert fences.prove(a_node(), threading.Event()) == PROOF
    assert not last.asked


def test_without_a_proof_every_fence_is_told_with_its_words_and_whether_it_was_tried() -> None:
    skipped = Scripted("power", refuse, "no program")
    attempts = Fences([Scripted("ssh", refuse), skipped]).prove(a_node(), threading.Event())
    assert attempts == (Attempt("ssh", "no\nanswer"), Attempt("power", "no program", tried=False))
    assert not skipped.asked
    assert isinstance(attempts, tuple)
    assert explain(attempts) == "ssh: no answer; power: no program"
    assert explain(()) == "there is no fence"


def test_a_fence_that_breaks_proves_nothing_and_stops_no_other() -> None:
    def broken() -> Proof:
        raise KeyError("oops")

    assert (
        Fences([Scripted("first", broken), Scripted("second", lambda: PROOF)]).prove(a_node(), threading.Event())
        == PROOF
    )
    [attempt] = Fences([Scripted("first", broken)]).prove(a_node(), threading.Event())  # type: ignore[misc]
    assert "it broke: KeyError" in attempt.words


def test_once_it_is_cancelled_no_further_fence_is_tried() -> None:
    cancelled = threading.Event()

    def cancel() -> Proof:
        cancelled.set()
        raise FenceFailed("it was cancelled")

    second = Scripted("second", lambda: PROOF)
    attempts = Fences([Scripted("first", cancel), second]).prove(a_node(), cancelled)
    assert not isinstance(attempts, Proof)
    assert [each.tried for each in attempts] == [True, False]
    assert not second.asked
