"""Something that happened to a machine, or that an audit found, in the order in which it was written."""

from garbi.hyper_api.events import Event as Event
from garbi.hyper_api.events import EventKind as EventKind
