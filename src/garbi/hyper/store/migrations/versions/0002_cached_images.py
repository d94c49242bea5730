"""Images that can be fetched again, and when each was last used."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("images", sa.Column("cached", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("images", sa.Column("used_at", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE images SET used_at = created_at")


def downgrade() -> None:
    for name in ("used_at", "cached"):
        op.drop_column("images", name)
