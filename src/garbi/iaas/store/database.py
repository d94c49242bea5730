"""The database of a controller, SQLite or PostgreSQL: its transactions carry events."""

from __future__ import annotations

from garbi.iaas.model.event import Event
from garbi.storage import database

Database = database.Database[Event]
Transaction = database.Transaction[Event]
