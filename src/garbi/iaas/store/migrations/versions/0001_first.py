"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

AMOUNTS = ("mem", "cpus", "disk")


def upgrade() -> None:
    op.create_table("meta", sa.Column("key", sa.String(), primary_key=True), _text("value"))
    _make_nodes()
    _make_images()
    _make_machines()
    _make_ports()
    _make_history()


def downgrade() -> None:
    for name in ("events", "idempotency", "operations", "ports", "machines", "images", "node_secrets", "nodes", "meta"):
        op.drop_table(name)


def _make_nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(), primary_key=True),
        _text("host"),
        _number("port"),
        _flag("provision"),
        _json("ssh"),
        _json("labels"),
        *[sa.Column("overcommit_" + name, sa.Float(), nullable=False) for name in AMOUNTS],
        _text("state"),
        _text("reason"),
        _flag("draining"),
        *[_large(prefix + name) for prefix in ("has_", "limit_", "reserved_", "bound_") for name in AMOUNTS],
        sa.Column("load1", sa.Float(), nullable=False),
        _large("mem_used"),
        _text("architecture"),
        _json("drivers"),
        _json("versions"),
        _text("cluster_id"),
        _text("boot_id"),
        _large("epoch"),
        _text("operation", nullable=True),
        *_moments("seen_at"),
        sa.UniqueConstraint("host", "port", name="nodes_have_one_name"),
        *[
            sa.CheckConstraint(f"reserved_{name} >= 0 AND reserved_{name} <= bound_{name}", name=f"nodes_keep_{name}")
            for name in AMOUNTS
        ],
        sa.CheckConstraint("draining OR state <> 'draining'", name="nodes_drain"),
    )
    op.create_table(
        "node_secrets",
        sa.Column("node", sa.String(), sa.ForeignKey("nodes.name", ondelete="CASCADE"), primary_key=True),
        _text("secret"),
    )


def _make_images() -> None:
    op.create_table(
        "images",
        sa.Column("name", sa.String(), primary_key=True),
        _text("type"),
        _large("size"),
        _large("virtual_size"),
        _text("sha256", index=True),
        _text("state"),
        _text("reason"),
        _text("created_at"),
    )


def _make_machines() -> None:
    op.create_table(
        "machines",
        _sequence(),
        _text("id", unique=True),
        _text("name"),
        _text("type"),
        _text("image", index=True),
        _text("image_sha256", index=True),
        *[_large(name) for name in AMOUNTS],
        sa.Column("node", sa.String(), sa.ForeignKey("nodes.name"), nullable=True, index=True),
        _json("labels"),
        _json("require"),
        _text("apart", nullable=True),
        _flag("full_copy"),
        _text("wish"),
        _text("state"),
        _text("reason"),
        _flag("refused"),
        _text("address", nullable=True),
        _text("restart"),
        _text("on_node_failure"),
        *[_large(name) for name in ("generation", "told_generation", "settled_generation", "epoch")],
        _text("operation", nullable=True),
        *_moments("seen_at"),
        sa.CheckConstraint("mem > 0 AND cpus > 0 AND disk >= 0", name="machines_reserve_something"),
        sa.CheckConstraint(
            "told_generation <= generation AND settled_generation <= generation", name="machines_follow"
        ),
        sa.UniqueConstraint("id", "node", name="machines_are_on_one_node"),
        sqlite_autoincrement=True,
    )


def _make_ports() -> None:
    op.create_table(
        "ports",
        _text("machine_id", index=True),
        _text("node"),
        _text("protocol"),
        _text("address"),
        _number("node_port"),
        _number("machine_port"),
        sa.ForeignKeyConstraint(
            ["machine_id", "node"], ["machines.id", "machines.node"], ondelete="CASCADE", onupdate="CASCADE"
        ),
        sa.UniqueConstraint("node", "protocol", "address", "node_port", name="ports_belong_to_one_machine"),
    )


def _make_history() -> None:
    op.create_table(
        "operations",
        _sequence(),
        _text("id", unique=True),
        _text("kind"),
        _text("target", index=True),
        _text("state", index=True),
        _number("step"),
        _number("steps"),
        sa.Column("progress", sa.Float(), nullable=False),
        _text("message"),
        sa.Column("error", sa.JSON(), nullable=True),
        *_moments("finished_at"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String(), primary_key=True),
        _text("fingerprint"),
        _text("machine_id"),
        _text("created_at"),
    )
    op.create_table(
        "events",
        _sequence(),
        _text("at"),
        _text("subject"),
        _text("id", index=True),
        *[_text(name) for name in ("kind", "state", "actor", "reason")],
        sqlite_autoincrement=True,
    )


def _sequence() -> "sa.Column[int]":
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("seq", kind, primary_key=True, autoincrement=True)


def _text(name: str, nullable: bool = False, index: bool | None = None, unique: bool | None = None) -> "sa.Column[str]":
    return sa.Column(name, sa.String(), nullable=nullable, index=index, unique=unique)


def _number(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.Integer(), nullable=False)


def _large(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _flag(name: str) -> "sa.Column[bool]":
    return sa.Column(name, sa.Boolean(), nullable=False)


def _json(name: str) -> "sa.Column[object]":
    return sa.Column(name, sa.JSON(), nullable=False)


def _moments(own: str) -> "list[sa.Column[str]]":
    return [_text(own, nullable=True), _text("created_at"), _text("updated_at")]
