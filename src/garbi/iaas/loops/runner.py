"""Runs operations on nodes, one at a time for each node, and takes up after a restart what had begun.

The number of the present step is recorded before the step begins; a crash at any instruction is repaired by doing that step
again, since every step may be repeated.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping

from garbi.base.clock import Clock
from garbi.base.crews import Crews
from garbi.base.errors import GarbiError
from garbi.base.failpoints import reach
from garbi.base.problem import to_problem
from garbi.iaas.leadership import Superseded
from garbi.iaas.model.operation import Operation, OperationKind, OperationState
from garbi.iaas.store import operations
from garbi.iaas.store.database import Database
from garbi.iaas.workflows.steps import OnProgress, Step, Workflow

log = logging.getLogger(__name__)

PROGRESS_S = 0.2
"""The shortest time between two records of progress inside a step."""

RETRY_S = 5.0
CREW = "operations"


class OperationRunner:
    """The threads that run operations, `parallel` of them."""

    def __init__(
        self, database: Database, workflows: Mapping[OperationKind, Workflow], clock: Clock, parallel: int
    ) -> None:
        self._database = database
        self._workflows = workflows
        self._clock = clock
        self._crews = Crews(clock.monotonic, parallel, self._work)
        self._lock = threading.Lock()
        self._cancelled: dict[str, threading.Event] = {}
        self._closing = threading.Event()

    @property
    def kinds(self) -> Collection[OperationKind]:
        """The kinds of operations that it runs."""
        return self._workflows.keys()

    def start(self) -> None:
        """Take up what had begun."""
        for operation in self._waiting():
            self.wake(operation.target)

    def wake(self, node: str) -> None:
        """Have the operations of a node looked at now."""
        self._crews.add(CREW, node)

    def cancel(self, operation_id: str) -> None:
        """Have an operation end early; it fails, if it can, at the place where it is."""
        self._flag(operation_id).set()

    def cancel_older(self, operation: Operation) -> None:
        """Have those end early that were under way when `operation` took the place of the one that its target was in."""
        for other in self._waiting():
            if other.target == operation.target and other.created_at < operation.created_at:
                self.cancel(other.id)

    def stop(self) -> None:
        """Begin nothing more, and leave what has begun for the next start."""
        self._closing.set()
        self._crews.close()
        with self._lock:
            flags = list(self._cancelled.values())
        for flag in flags:
            flag.set()

    def join(self, patience_s: float) -> None:
        """Wait for the threads, at most `patience_s` seconds altogether."""
        self._crews.join(patience_s)

    def _waiting(self) -> list[Operation]:
        with self._database.read() as connection:
            return [each for each in operations.running(connection) if each.kind in self._workflows]

    def _flag(self, operation_id: str) -> threading.Event:
        with self._lock:
            flag = self._cancelled.setdefault(operation_id, threading.Event())
        if self._closing.is_set():
            flag.set()
        return flag

    def _work(self, _crew: str, node: str) -> None:
        try:
            for operation in self._waiting():
                if operation.target == node and not self._closing.is_set():
                    self._run(operation)
        except Superseded:
            return  # who leads now takes it up
        except Exception:  # a thread has to survive what it cannot foresee
            if not self._closing.is_set():
                log.exception("operation failed", extra={"node": node})
                self._crews.add_later(CREW, node, RETRY_S)

    def _run(self, operation: Operation) -> None:
        workflow = self._workflows[operation.kind]
        flag = self._flag(operation.id)
        try:
            steps = workflow.steps(operation)
            for number in range(max(operation.step, 1), len(steps) + 1):
                self._begin(operation, steps, number)
                steps[number - 1].do(self._reporter(operation, steps, number), flag)
                reach(f"operation.{operation.kind}.{number}.done")
            self._conclude(operation, workflow, len(steps))
        except Superseded:
            raise
        except GarbiError as error:
            self._fail(operation, workflow, error)
        except Exception as error:
            log.exception("operation failed", extra={"operation": operation.id})
            self._fail(operation, workflow, GarbiError(f"internal error: {type(error).__name__}"))
        finally:
            with self._lock:
                self._cancelled.pop(operation.id, None)
        if not self._closing.is_set():
            workflow.after(operation)

    def _begin(self, operation: Operation, steps: list[Step], number: int) -> None:
        with self._database.write() as transaction:
            operations.progress(
                transaction,
                operation.id,
                self._clock.now(),
                step=number,
                steps=len(steps),
                progress=_fraction(steps, number, 0.0),
                message=steps[number - 1].name,
            )
        reach(f"operation.{operation.kind}.{number}.begun")

    def _reporter(self, operation: Operation, steps: list[Step], number: int) -> OnProgress:
        last = float("-inf")

        def report(fraction: float, words: str) -> None:
            nonlocal last
            moment = self._clock.monotonic()
            if moment - last < PROGRESS_S and fraction < 1:
                return
            last = moment
            done = _fraction(steps, number, min(max(fraction, 0.0), 1.0))
            with self._database.write() as transaction:
                operations.progress(transaction, operation.id, self._clock.now(), progress=done, message=words)

        return report

    def _conclude(self, operation: Operation, workflow: Workflow, steps: int) -> None:
        with self._database.write() as transaction:
            words = workflow.conclude(transaction, operation)
            now = self._clock.now()
            operations.progress(transaction, operation.id, now, step=steps, progress=1.0)
            operations.finish(transaction, operation.id, OperationState.DONE, now, message=words)
        reach(f"operation.{operation.kind}.recorded")

    def _fail(self, operation: Operation, workflow: Workflow, error: GarbiError) -> None:
        if self._closing.is_set():
            return  # it was interrupted, and is taken up at the next start
        log.warning("operation failed", extra={"operation": operation.id, "code": error.code, "detail": error.detail})
        with self._database.write() as transaction:
            workflow.fail(transaction, operation, error)
            failed = OperationState.FAILED
            operations.finish(transaction, operation.id, failed, self._clock.now(), error=to_problem(error))
        reach(f"operation.{operation.kind}.failed")


def _fraction(steps: list[Step], number: int, inside: float) -> float:
    """How much of the whole is done when so much of step `number` is."""
    total = sum(step.weight for step in steps)
    before = sum(step.weight for step in steps[: number - 1])
    return (before + steps[number - 1].weight * inside) / total
