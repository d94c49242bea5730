"""The tables. The database itself refuses what must not be: two owners of a port, more promised than a node has.

Written for SQLite and PostgreSQL alike. Moments are text as `garbi.base.clock.to_wire` writes it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    false,
    true,
)

metadata = MetaData()

AMOUNTS = ("mem", "cpus", "disk")


class Words(TypeDecorator[str]):
    """Text that may come from a stranger: what a database cannot hold (zeros, halves of characters) is replaced."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Words, nullable=False, **options)


def _amounts(prefix: str = "") -> list[Column[int]]:
    return [Column(prefix + name, BigInteger, nullable=False) for name in AMOUNTS]


def _sequence() -> Column[int]:
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


meta = Table(
    "meta",
    metadata,
    Column("key", Words, primary_key=True),
    _text("value"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("name", Words, primary_key=True),
    _text("host"),
    Column("port", Integer, nullable=False),
    Column("provision", Boolean, nullable=False),
    Column("ssh", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    *[Column("overcommit_" + name, Float, nullable=False) for name in AMOUNTS],
    _text("state"),
    _text("reason"),
    Column("draining", Boolean, nullable=False),
    *_amounts("has_"),
    *_amounts("limit_"),
    *_amounts("reserved_"),
    *_amounts("bound_"),
    Column("load1", Float, nullable=False),
    Column("mem_used", BigInteger, nullable=False),
    _text("architecture"),
    Column("drivers", JSON, nullable=False),
    Column("versions", JSON, nullable=False),
    _text("cluster_id"),
    _text("boot_id"),
    Column("epoch", BigInteger, nullable=False),
    Column("lease", BigInteger, nullable=False, server_default="1"),
    _text("failure", server_default=""),
    Column("power", JSON(none_as_null=True), nullable=True),
    Column("host_mem", BigInteger, nullable=False, server_default="0"),
    Column("touched", Boolean, nullable=False, server_default=true()),
    Column("witness", Boolean, nullable=False, server_default=false()),
    Column("live_restore", Boolean, nullable=False, server_default=false()),
    _text("unwritable", server_default=""),
    Column("leaving_at", Words, nullable=True),
    Column("operation", Words, nullable=True),
    Column("seen_at", Words, nullable=True),
    _text("created_at"),
    _text("updated_at"),
    UniqueConstraint("host", "port", name="nodes_have_one_name"),
    *[
        CheckConstraint(f"reserved_{name} >= 0 AND reserved_{name} <= bound_{name}", name=f"nodes_keep_{name}")
        for name in AMOUNTS
    ],
    CheckConstraint("draining OR state <> 'draining'", name="nodes_drain"),
)
"""`bound_*` is what `reserved_*` may never pass: the limit, or, where a host shrank, what was reserved before it did."""

node_secrets = Table(
    "node_secrets",
    metadata,
    Column("node", Words, ForeignKey("nodes.name", ondelete="CASCADE"), primary_key=True),
    _text("secret"),
)

fence_secrets = Table(
    "fence_secrets",
    metadata,
    Column("node", Words, ForeignKey("nodes.name", ondelete="CASCADE"), primary_key=True),
    Column("name", Words, primary_key=True),
    _text("value"),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("cluster_id", Words, primary_key=True),
    _text("name"),
    _text("host"),
    Column("port", Integer, nullable=False),
    Column("lease", BigInteger, nullable=False),
    Column("machines", JSON, nullable=False),
    Column("may_run", JSON, nullable=False),
    _text("said"),
    _text("removed_at"),
    _text("secret"),
)

images = Table(
    "images",
    metadata,
    Column("name", Words, primary_key=True),
    _text("type"),
    Column("size", BigInteger, nullable=False),
    Column("virtual_size", BigInteger, nullable=False),
    _text("sha256", index=True),
    _text("state"),
    _text("reason"),
    _text("created_at"),
)

machines = Table(
    "machines",
    metadata,
    _sequence(),
    _text("id", unique=True),
    _text("name"),
    _text("type"),
    _text("image", index=True),
    _text("image_sha256", index=True),
    *_amounts(),
    Column("node", Words, ForeignKey("nodes.name"), nullable=True, index=True),
    Column("labels", JSON, nullable=False),
    Column("require", JSON, nullable=False),
    Column("apart", Words, nullable=True),
    Column("full_copy", Boolean, nullable=False),
    _text("wish"),
    _text("state"),
    _text("reason"),
    Column("refused", Boolean, nullable=False),
    Column("address", Words, nullable=True),
    _text("restart"),
    _text("on_node_failure"),
    Column("generation", BigInteger, nullable=False),
    Column("told_generation", BigInteger, nullable=False),
    Column("settled_generation", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("operation", Words, nullable=True),
    Column("seen_at", Words, nullable=True),
    _text("created_at"),
    _text("updated_at"),
    _text("moving", server_default=""),
    _text("moving_why", server_default=""),
    Column("drained", Words, nullable=True),
    CheckConstraint("mem > 0 AND cpus > 0 AND disk >= 0", name="machines_reserve_something"),
    CheckConstraint("told_generation <= generation AND settled_generation <= generation", name="machines_follow"),
    UniqueConstraint("id", "node", name="machines_are_on_one_node"),
    sqlite_autoincrement=True,
)
"""(id, node) is unique for the sake of `ports`, whose rows follow their machine to another node."""

ports = Table(
    "ports",
    metadata,
    _text("machine_id", index=True),
    _text("node"),
    _text("protocol"),
    _text("address"),
    Column("node_port", Integer, nullable=False),
    Column("machine_port", Integer, nullable=False),
    ForeignKeyConstraint(
        ["machine_id", "node"], ["machines.id", "machines.node"], ondelete="CASCADE", onupdate="CASCADE"
    ),
    UniqueConstraint("node", "protocol", "address", "node_port", name="ports_belong_to_one_machine"),
)

operations = Table(
    "operations",
    metadata,
    _sequence(),
    _text("id", unique=True),
    _text("kind"),
    _text("target", index=True),
    _text("state", index=True),
    Column("step", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("progress", Float, nullable=False),
    _text("message"),
    Column("error", JSON(none_as_null=True), nullable=True),
    _text("created_at"),
    _text("updated_at"),
    Column("finished_at", Words, nullable=True),
    sqlite_autoincrement=True,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", Words, primary_key=True),
    _text("fingerprint"),
    _text("machine_id"),
    _text("created_at"),
)

events = Table(
    "events",
    metadata,
    _sequence(),
    _text("at"),
    _text("subject"),
    _text("id", index=True),
    _text("kind"),
    _text("state"),
    _text("actor"),
    _text("reason"),
    sqlite_autoincrement=True,
)
