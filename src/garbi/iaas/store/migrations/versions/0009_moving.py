"""The intent to move a machine, and what a drain has stopped."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("moving", "moving_why"):
        op.add_column("machines", sa.Column(name, sa.String(), nullable=False, server_default=""))
    op.add_column("machines", sa.Column("drained", sa.String(), nullable=True))


def downgrade() -> None:
    for name in ("drained", "moving_why", "moving"):
        op.drop_column("machines", name)
