"""The database of a host: its transactions carry the events of machines."""

from __future__ import annotations

from garbi.hyper.model.event import Event
from garbi.storage import database

Database = database.Database[Event]
Transaction = database.Transaction[Event]
