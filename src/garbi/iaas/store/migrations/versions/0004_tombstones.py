"""Nodes that were removed by force while their hosts were silent: whom to ask, and what to remove there."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tombstones",
        sa.Column("cluster_id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("machines", sa.JSON(), nullable=False),
        sa.Column("may_run", sa.JSON(), nullable=False),
        sa.Column("said", sa.String(), nullable=False),
        sa.Column("removed_at", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("tombstones")
