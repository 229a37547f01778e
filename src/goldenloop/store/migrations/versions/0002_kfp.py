"""What KFP's API keeps: experiments, pipelines and their versions, recurring runs; and what started a run."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def _document() -> sa.JSON:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the new tables, and the new columns of runs and decisions."""
    op.create_table(
        "experiments",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("storage_state", sa.String(length=16), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("last_run_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("namespace", "name", name=op.f("uq_experiments_namespace_name")),
    )
    op.create_index(
        op.f("ix_experiments_namespace_created_us_id"), "experiments", ["namespace", "created_us", "id"], unique=False
    )
    op.create_table(
        "pipelines",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("display_name", sa.String(length=253), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", _document(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipelines")),
        sa.UniqueConstraint("namespace", "name", name=op.f("uq_pipelines_namespace_name")),
    )
    op.create_index(
        op.f("ix_pipelines_namespace_created_us_id"), "pipelines", ["namespace", "created_us", "id"], unique=False
    )
    op.create_table(
        "recurring_runs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("experiment_id", sa.String(length=36), nullable=False),
        sa.Column("pipeline_id", sa.String(length=36), nullable=True),
        sa.Column("version_id", sa.String(length=36), nullable=True),
        sa.Column("spec", _document(), nullable=True),
        sa.Column("platform", _document(), nullable=True),
        sa.Column("parameters", _document(), nullable=False),
        sa.Column("settings", _document(), nullable=True),
        sa.Column("schedule", _document(), nullable=False),
        sa.Column("catch_up", sa.Boolean(), nullable=False),
        sa.Column("max_concurrency", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("started", sa.Integer(), nullable=False),
        sa.Column("last_slot_us", sa.BigInteger(), nullable=True),
        sa.Column("next_slot_us", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recurring_runs")),
    )
    op.create_index(
        op.f("ix_recurring_runs_enabled_next_slot_us"), "recurring_runs", ["enabled", "next_slot_us"], unique=False
    )
    op.create_index(
        op.f("ix_recurring_runs_experiment_id_created_us_id"),
        "recurring_runs",
        ["experiment_id", "created_us", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_recurring_runs_namespace_created_us_id"),
        "recurring_runs",
        ["namespace", "created_us", "id"],
        unique=False,
    )
    op.create_table(
        "pipeline_versions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pipeline_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("display_name", sa.String(length=253), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("spec", _document(), nullable=False),
        sa.Column("platform", _document(), nullable=True),
        sa.Column("code_source_url", sa.Text(), nullable=False),
        sa.Column("package_url", sa.Text(), nullable=False),
        sa.Column("tags", _document(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["pipelines.id"],
            name=op.f("fk_pipeline_versions_pipeline_id_pipelines"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_versions")),
        sa.UniqueConstraint("pipeline_id", "name", name=op.f("uq_pipeline_versions_pipeline_id_name")),
    )
    op.create_index(
        op.f("ix_pipeline_versions_pipeline_id_created_us_id"),
        "pipeline_versions",
        ["pipeline_id", "created_us", "id"],
        unique=False,
    )
    op.add_column("decisions", sa.Column("trigger_uid", sa.String(length=36), nullable=True))
    op.create_index(
        op.f("ix_decisions_trigger_uid_settled_id"), "decisions", ["trigger_uid", "settled", "id"], unique=False
    )
    op.add_column("runs", sa.Column("experiment_id", sa.String(length=36), nullable=True))
    op.add_column("runs", sa.Column("pipeline_id", sa.String(length=36), nullable=True))
    op.add_column("runs", sa.Column("version_id", sa.String(length=36), nullable=True))
    op.add_column("runs", sa.Column("started_by", sa.String(length=36), nullable=True))
    op.add_column("runs", sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("runs", sa.Column("storage_state", sa.String(length=16), server_default="AVAILABLE", nullable=False))
    op.add_column("runs", sa.Column("scheduled_us", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("settings", _document(), nullable=True))
    op.create_index(
        op.f("ix_runs_experiment_id_created_us_id_storage_state"),
        "runs",
        ["experiment_id", "created_us", "id", "storage_state"],
        unique=False,
    )
    op.create_index(op.f("ix_runs_finished_us"), "runs", ["finished_us"], unique=False)
    op.create_index(
        op.f("ix_runs_namespace_created_us_id_storage_state"),
        "runs",
        ["namespace", "created_us", "id", "storage_state"],
        unique=False,
    )
    op.create_index(op.f("ix_runs_started_by_state"), "runs", ["started_by", "state"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index(op.f("ix_runs_started_by_state"), table_name="runs")
    op.drop_index(op.f("ix_runs_namespace_created_us_id_storage_state"), table_name="runs")
    op.drop_index(op.f("ix_runs_finished_us"), table_name="runs")
    op.drop_index(op.f("ix_runs_experiment_id_created_us_id_storage_state"), table_name="runs")
    op.drop_column("runs", "settings")
    op.drop_column("runs", "scheduled_us")
    op.drop_column("runs", "storage_state")
    op.drop_column("runs", "description")
    op.drop_column("runs", "started_by")
    op.drop_column("runs", "version_id")
    op.drop_column("runs", "pipeline_id")
    op.drop_column("runs", "experiment_id")
    op.drop_index(op.f("ix_decisions_trigger_uid_settled_id"), table_name="decisions")
    op.drop_column("decisions", "trigger_uid")
    op.drop_index(op.f("ix_pipeline_versions_pipeline_id_created_us_id"), table_name="pipeline_versions")
    op.drop_table("pipeline_versions")
    op.drop_index(op.f("ix_recurring_runs_namespace_created_us_id"), table_name="recurring_runs")
    op.drop_index(op.f("ix_recurring_runs_experiment_id_created_us_id"), table_name="recurring_runs")
    op.drop_index(op.f("ix_recurring_runs_enabled_next_slot_us"), table_name="recurring_runs")
    op.drop_table("recurring_runs")
    op.drop_index(op.f("ix_pipelines_namespace_created_us_id"), table_name="pipelines")
    op.drop_table("pipelines")
    op.drop_index(op.f("ix_experiments_namespace_created_us_id"), table_name="experiments")
    op.drop_table("experiments")
