"""Why a node is failed, and whether anything of ours may be on its host."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ONLY_ITS_AGENT = """
UPDATE nodes SET failure = CASE
    WHEN operation IN (SELECT id FROM operations WHERE kind = 'node-remove') THEN 'removal'
    WHEN cluster_id = '' THEN 'setup'
    ELSE 'agent' END
WHERE state = 'failed'
"""


def upgrade() -> None:
    op.add_column("nodes", sa.Column("failure", sa.String(), nullable=False, server_default=""))
    op.add_column("nodes", sa.Column("touched", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.execute(ONLY_ITS_AGENT)


def downgrade() -> None:
    op.drop_column("nodes", "touched")
    op.drop_column("nodes", "failure")
