"""In which life of its engine a machine was last seen on."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("machines", sa.Column("engine_life", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("machines", "engine_life")
