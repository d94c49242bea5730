"""The tables. The database refuses what must not be: two owners of a port, of an address, of an id."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
)

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("name", String, primary_key=True),
    Column("type", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("virtual_size", Integer, nullable=False),
    Column("sha256", String, nullable=False, index=True),
    Column("state", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("cached", Boolean, nullable=False, server_default=false()),
    Column("used_at", String, nullable=False, server_default=""),
)

machines = Table(
    "machines",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("type", String, nullable=False),
    Column("image", String, nullable=False),
    Column("image_sha256", String, nullable=False, index=True),
    Column("mem", Integer, nullable=False),
    Column("cpus", Integer, nullable=False),
    Column("node", String, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("full_copy", Boolean, nullable=False),
    Column("wish", String, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("address", String, nullable=True),
    Column("mac", String, nullable=True, unique=True),
    Column("reserved_address", String, nullable=True, unique=True),
    Column("restart", String, nullable=False),
    Column("awaits", String, nullable=False, server_default=""),
    Column("restarts", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("lease", Integer, nullable=False, server_default="0"),
    Column("ordered", Integer, nullable=False, server_default="0"),
    Column("keep_s", Integer, nullable=False, server_default="0"),
    Column("engine_life", String, nullable=False, server_default=""),
    Column("on_node_failure", String, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("settled_generation", Integer, nullable=False),
    Column("boot_id", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("updated_at", String, nullable=False),
    CheckConstraint("mem > 0 AND cpus > 0", name="machines_reserve_something"),
    sqlite_autoincrement=True,
)

leases = Table(
    "leases",
    metadata,
    Column("controller", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("term", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("fenced", Integer, nullable=False),
    Column("updated_at", String, nullable=False),
)
"""Of each controller: the newest holder that was heard, the number of the lease, and the last number that a fence ended."""

kept = Table(
    "kept",
    metadata,
    Column("name", String, primary_key=True),
    Column("machine_id", String, nullable=False, index=True),
    Column("type", String, nullable=False),
    Column("image_sha256", String, nullable=False, index=True),
    Column("epoch", Integer, nullable=False),
    Column("place", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("kept_at", String, nullable=False),
    Column("keep_s", Integer, nullable=False),
    Column("age_s", Integer, nullable=False),
)
"""Disks of machines that were moved away. `age_s` counts seconds while the agent ran, whatever the clock does meanwhile."""

ports = Table(
    "ports",
    metadata,
    Column("machine_id", String, ForeignKey("machines.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("protocol", String, nullable=False),
    Column("address", String, nullable=False),
    Column("node_port", Integer, nullable=False),
    Column("machine_port", Integer, nullable=False),
    UniqueConstraint("protocol", "address", "node_port", name="ports_belong_to_one_machine"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("machine_id", String, nullable=False),
    Column("created_at", String, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("at", String, nullable=False),
    Column("machine_id", String, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("state", String, nullable=False),
    Column("wish", String, nullable=False),
    Column("reason", String, nullable=False),
    sqlite_autoincrement=True,
)
