"""How the host of a node is switched off: its fence agent, and the secrets of that."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("power", sa.JSON(), nullable=True))
    op.create_table(
        "fence_secrets",
        sa.Column("node", sa.String(), sa.ForeignKey("nodes.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.String(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("fence_secrets")
    op.drop_column("nodes", "power")
