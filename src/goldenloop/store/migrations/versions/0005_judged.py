"""Verdicts name the person who gave them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; what was decided before has no name."""
    with op.batch_alter_table("evaluations") as evaluations:
        evaluations.add_column(sa.Column("person", sa.String(length=253), nullable=False, server_default=sa.text("''")))
