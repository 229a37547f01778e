"""Measurements of slices, with intervals; the strangest rows of a window; detectors are remembered by monitor."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add columns and table; what a loop's monitors remember keeps its evidence under new names."""
    with op.batch_alter_table("measurements") as measurements:
        measurements.add_column(sa.Column("slice", sa.String(length=253), nullable=False, server_default=sa.text("''")))
        measurements.add_column(sa.Column("low", sa.Float(), nullable=True))
        measurements.add_column(sa.Column("high", sa.Float(), nullable=True))
        measurements.drop_constraint(
            op.f("uq_measurements_namespace_loop_monitor_metric_feature_version_window"), type_="unique"
        )
        measurements.create_unique_constraint(
            op.f("uq_measurements_namespace_loop_monitor_metric_feature_slice_version_window"),
            ["namespace", "loop", "monitor", "metric", "feature", "slice", "version", "window"],
        )
    op.create_table(
        "flagged_rows",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("loop", sa.String(length=253), nullable=False),
        sa.Column("window", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("monitor", sa.String(length=64), nullable=False),
        sa.Column("prediction", sa.String(length=36), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flagged_rows")),
    )
    op.create_index(
        op.f("ix_flagged_rows_namespace_loop_prediction"),
        "flagged_rows",
        ["namespace", "loop", "prediction"],
        unique=False,
    )
    _rename_detectors()


def _rename_detectors() -> None:
    """`drift` and `answers` become `detectors.drift` and `detectors.predictionDrift`."""
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    memories = sa.table(
        "memories", sa.column("namespace"), sa.column("loop"), sa.column("name"), sa.column("document", document)
    )
    connection = op.get_bind()
    kept = connection.execute(sa.select(memories).where(memories.c.name == "monitors")).all()
    for row in kept:
        remembered = dict(row.document)
        if "detectors" in remembered:
            continue
        detectors = {"drift": remembered.pop("drift"), "predictionDrift": remembered.pop("answers")}
        connection.execute(
            sa.update(memories)
            .where(memories.c.namespace == row.namespace, memories.c.loop == row.loop, memories.c.name == "monitors")
            .values(document={**remembered, "detectors": detectors})
        )
