"""How often the machines of a node were declared dead: the number that its lease has to have."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("lease", sa.BigInteger(), nullable=False, server_default="1"))


def downgrade() -> None:
    op.drop_column("nodes", "lease")
