"""The Python model of a host: every verb a user has, the same for REST, for the command line and for programs."""

from garbi.hyper.agent.agent import Agent
from garbi.hyper.agent.audit import Violation

__all__ = ["Agent", "Violation"]
