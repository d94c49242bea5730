"""Restarts of machines, leases of controllers, disks of machines that were moved away."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("machines", sa.Column("awaits", sa.String(), nullable=False, server_default=""))
    for name in ("restarts", "lease", "ordered", "keep_s"):
        op.add_column("machines", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "leases",
        sa.Column("controller", sa.String(), primary_key=True),
        sa.Column("holder", sa.String(), nullable=False),
        *[sa.Column(name, sa.Integer(), nullable=False) for name in ("term", "number", "fenced")],
        sa.Column("updated_at", sa.String(), nullable=False),
    )
    op.create_table(
        "kept",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("machine_id", sa.String(), nullable=False, index=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("image_sha256", sa.String(), nullable=False, index=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("kept_at", sa.String(), nullable=False),
        sa.Column("keep_s", sa.Integer(), nullable=False),
        sa.Column("age_s", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    for name in ("kept", "leases"):
        op.drop_table(name)
    for name in ("keep_s", "ordered", "lease", "restarts", "awaits"):
        op.drop_column("machines", name)
