"""What a node says of its disk, and that its host goes down."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("unwritable", sa.String(), nullable=False, server_default=""))
    op.add_column("nodes", sa.Column("leaving_at", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("nodes", "leaving_at")
    op.drop_column("nodes", "unwritable")
