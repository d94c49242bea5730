"""One controller: its parts, put together, and their life from start to close."""

from __future__ import annotations

from dataclasses import dataclass

from garbi.iaas.controller.audit import Violation
from garbi.iaas.controller.events import EventFeed
from garbi.iaas.controller.images import Images
from garbi.iaas.controller.machines import Machines
from garbi.iaas.controller.nodes import Nodes
from garbi.iaas.controller.operations import Operations
from garbi.iaas.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """What a controller is made of; `main` builds it."""

    settings: Settings
    cluster_id: str
    secret: str
    events: EventFeed
    nodes: Nodes
    images: Images
    machines: Machines
    operations: Operations


class Controller:
    """The controller of a cloud. Its members hold the verbs; `close` lets every machine run on."""

    def __init__(self, parts: Parts) -> None:
        self.settings = parts.settings
        self.cluster_id = parts.cluster_id
        self.secret = parts.secret
        self.events = parts.events
        self.nodes = parts.nodes
        self.images = parts.images
        self.machines = parts.machines
        self.operations = parts.operations

    def audit(self) -> list[Violation]:
        """The invariants that do not hold; none in a healthy cloud."""
        raise NotImplementedError

    def healthy(self) -> bool:
        """Whether the controller works: it is open and its database answers."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop working. Machines keep running; what was begun is taken up at the next start."""
        raise NotImplementedError
