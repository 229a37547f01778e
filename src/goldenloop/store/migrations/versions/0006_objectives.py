"""Objectives that the wall clock counts: running totals of what was good and of what there was."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "indicator_totals",
        sa.Column("slo", sa.String(length=300), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("good", sa.Double(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("seen_good", sa.Double(), nullable=False),
        sa.Column("seen_total", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("slo", "at_us", name=op.f("pk_indicator_totals")),
    )
