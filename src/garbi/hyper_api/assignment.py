"""Under which authority a controller gives an order: what a host checks so that a stale order has no effect (invariant I11)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from garbi.base.errors import MalformedRequest

HEADER = "Garbi-Assignment"
"""The request header that carries it: a dictionary of structured fields (RFC 9651)."""

CONTROLLER_LABEL = "garbi.controller"
"""The label of a machine that says which controller it belongs to: the id of its cloud."""

EPOCH_LABEL = "garbi.epoch"
"""The label that says how often the machine had been assigned to a host when it was made."""

_FORM = re.compile(
    r'controller="(?P<controller>[0-9a-f]{32})", holder="(?P<holder>[0-9a-f]{1,32})", '
    r"term=(?P<term>[0-9]{1,15}), lease=(?P<lease>[0-9]{1,15}), epoch=(?P<epoch>[0-9]{1,15})"
    r"(?:, order=(?P<order>[0-9]{1,15}))?"
)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who gives an order, and of which time it is.

    `controller` is the id of the cloud, `term` counts the controllers that held its loops one after the other, `holder` is
    random and tells two with the same term apart (the first that came is right). `lease` counts how often the machines of the
    host were declared dead, `epoch` how often the machine was assigned to a host, `order` the wishes of its user: an order that
    comes after a later one has no effect. 0: it is not to be compared.
    """

    controller: str
    holder: str
    term: int
    lease: int
    epoch: int = 0
    order: int = 0

    def to_header(self) -> str:
        """The value of the header."""
        words = f'controller="{self.controller}", holder="{self.holder}", term={self.term}, lease={self.lease}'
        return f"{words}, epoch={self.epoch}" + (f", order={self.order}" if self.order else "")

    @classmethod
    def from_header(cls, text: str) -> Assignment:
        """Read the header; raises MalformedRequest."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise MalformedRequest(f"the header {HEADER} cannot be read")
        numbers = {name: int(found[name] or 0) for name in ("term", "lease", "epoch", "order")}
        return cls(found["controller"], found["holder"], **numbers)
