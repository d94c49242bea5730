"""How much memory the host of a node has, whatever its agent may give away: several agents may share it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("host_mem", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("nodes", "host_mem")
