"""The Python model of a cloud: nodes, images, machines, operations, events; the same for REST and for programs."""

from garbi.base.audit import Violation
from garbi.iaas.controller.controller import Controller

__all__ = ["Controller", "Violation"]
