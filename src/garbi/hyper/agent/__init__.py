"""The Python model of a host: every verb a user has, the same for REST, for the command line and for programs."""

from garbi.base.audit import Violation
from garbi.hyper.agent.agent import Agent

__all__ = ["Agent", "Violation"]
