"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("value", sa.String(), nullable=False),
    )
    op.create_table(
        "images",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("virtual_size", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False, index=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
    )
    op.create_table(
        "machines",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        *[sa.Column(name, sa.String(), nullable=False) for name in ("name", "type", "image")],
        sa.Column("image_sha256", sa.String(), nullable=False, index=True),
        sa.Column("mem", sa.Integer(), nullable=False),
        sa.Column("cpus", sa.Integer(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("full_copy", sa.Boolean(), nullable=False),
        *[sa.Column(name, sa.String(), nullable=False) for name in ("wish", "state", "reason")],
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("mac", sa.String(), nullable=True, unique=True),
        sa.Column("reserved_address", sa.String(), nullable=True, unique=True),
        sa.Column("restart", sa.String(), nullable=False),
        sa.Column("on_node_failure", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("settled_generation", sa.Integer(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("updated_at", sa.String(), nullable=False),
        sa.CheckConstraint("mem > 0 AND cpus > 0", name="machines_reserve_something"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ports",
        sa.Column(
            "machine_id", sa.String(), sa.ForeignKey("machines.id", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("protocol", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("node_port", sa.Integer(), nullable=False),
        sa.Column("machine_port", sa.Integer(), nullable=False),
        sa.UniqueConstraint("protocol", "address", "node_port", name="ports_belong_to_one_machine"),
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("machine_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("machine_id", sa.String(), nullable=False, index=True),
        *[sa.Column(name, sa.String(), nullable=False) for name in ("kind", "state", "wish", "reason")],
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for name in ("events", "idempotency", "ports", "machines", "images", "meta"):
        op.drop_table(name)
