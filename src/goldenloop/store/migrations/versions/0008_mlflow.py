"""What tracking clients log: experiments, runs, their values, datasets, logged and registered models."""

import time

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"


def _document() -> sa.JSON:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def _counter() -> sa.BigInteger:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, and the experiment that runs belong to when nobody names one."""
    op.create_table(
        "registered_models",
        sa.Column("id", _counter(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("external_id", sa.String(length=256), nullable=True),
        sa.Column("details", _document(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registered_models")),
        sa.UniqueConstraint("external_id", name=op.f("uq_registered_models_external_id")),
        sa.UniqueConstraint("name", name=op.f("uq_registered_models_name")),
    )
    op.create_table(
        "registry_entries",
        sa.Column("id", _counter(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("external_id", sa.String(length=256), nullable=True),
        sa.Column("document", _document(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_entries")),
        sa.UniqueConstraint("kind", "external_id", name=op.f("uq_registry_entries_kind_external_id")),
        sa.UniqueConstraint("kind", "parent_id", "name", name=op.f("uq_registry_entries_kind_parent_id_name")),
    )
    op.create_table(
        "tracked_experiments",
        sa.Column("id", _counter(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("artifact_location", sa.Text(), nullable=False),
        sa.Column("lifecycle", sa.String(length=8), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tracked_experiments")),
        sa.UniqueConstraint("name", name=op.f("uq_tracked_experiments_name")),
    )
    op.create_table(
        "tracked_params",
        sa.Column("owner", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_tracked_params")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tracked_tags",
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("owner", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "owner", "key", name=op.f("pk_tracked_tags")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "logged_models",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("experiment_id", _counter(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("artifact_uri", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=28), nullable=False),
        sa.Column("status_message", sa.Text(), nullable=False),
        sa.Column("model_type", sa.Text(), nullable=False),
        sa.Column("source_run_id", sa.String(length=32), nullable=True),
        sa.Column("lifecycle", sa.String(length=8), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["tracked_experiments.id"],
            name=op.f("fk_logged_models_experiment_id_tracked_experiments"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logged_models")),
    )
    op.create_index(
        op.f("ix_logged_models_experiment_id_created_ms_id"),
        "logged_models",
        ["experiment_id", "created_ms", "id"],
        unique=False,
    )
    op.create_index(op.f("ix_logged_models_source_run_id"), "logged_models", ["source_run_id"], unique=False)
    op.create_table(
        "registered_aliases",
        sa.Column("model_id", _counter(), nullable=False),
        sa.Column("alias", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["registered_models.id"],
            name=op.f("fk_registered_aliases_model_id_registered_models"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_id", "alias", name=op.f("pk_registered_aliases")),
    )
    op.create_table(
        "registered_versions",
        sa.Column("id", _counter(), autoincrement=True, nullable=False),
        sa.Column("model_id", _counter(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=True),
        sa.Column("run_link", sa.Text(), nullable=False),
        sa.Column("logged_model_id", sa.String(length=40), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("stage", sa.String(length=12), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("external_id", sa.String(length=256), nullable=True),
        sa.Column("details", _document(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["registered_models.id"],
            name=op.f("fk_registered_versions_model_id_registered_models"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registered_versions")),
        sa.UniqueConstraint("external_id", name=op.f("uq_registered_versions_external_id")),
        sa.UniqueConstraint("model_id", "name", name=op.f("uq_registered_versions_model_id_name")),
        sa.UniqueConstraint("model_id", "number", name=op.f("uq_registered_versions_model_id_number")),
    )
    op.create_index(
        op.f("ix_registered_versions_logged_model_id"), "registered_versions", ["logged_model_id"], unique=False
    )
    op.create_index(op.f("ix_registered_versions_run_id"), "registered_versions", ["run_id"], unique=False)
    op.create_table(
        "tracked_datasets",
        sa.Column("id", _counter(), autoincrement=True, nullable=False),
        sa.Column("experiment_id", _counter(), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("digest", sa.String(length=36), nullable=False),
        sa.Column("source_type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["tracked_experiments.id"],
            name=op.f("fk_tracked_datasets_experiment_id_tracked_experiments"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tracked_datasets")),
        sa.UniqueConstraint(
            "experiment_id", "name", "digest", name=op.f("uq_tracked_datasets_experiment_id_name_digest")
        ),
    )
    op.create_table(
        "tracked_runs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("experiment_id", _counter(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("user", sa.String(length=256), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("lifecycle", sa.String(length=8), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=True),
        sa.Column("artifact_uri", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["tracked_experiments.id"],
            name=op.f("fk_tracked_runs_experiment_id_tracked_experiments"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tracked_runs")),
    )
    op.create_index(
        op.f("ix_tracked_runs_experiment_id_start_ms_id"),
        "tracked_runs",
        ["experiment_id", "start_ms", "id"],
        unique=False,
    )
    op.create_table(
        "logged_model_metrics",
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("dataset_name", sa.String(length=500), nullable=False),
        sa.Column("dataset_digest", sa.String(length=36), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["logged_models.id"],
            name=op.f("fk_logged_model_metrics_model_id_logged_models"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "model_id",
            "key",
            "run_id",
            "timestamp_ms",
            "step",
            "dataset_name",
            "dataset_digest",
            name=op.f("pk_logged_model_metrics"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_models",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("direction", sa.String(length=6), nullable=False),
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["tracked_runs.id"], name=op.f("fk_run_models_run_id_tracked_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "direction", "model_id", name=op.f("pk_run_models")),
    )
    op.create_table(
        "tracked_inputs",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("dataset_id", _counter(), nullable=False),
        sa.Column("context", sa.String(length=500), nullable=True),
        sa.Column("tags", _document(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["tracked_datasets.id"], name=op.f("fk_tracked_inputs_dataset_id_tracked_datasets")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["tracked_runs.id"], name=op.f("fk_tracked_inputs_run_id_tracked_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "dataset_id", name=op.f("pk_tracked_inputs")),
    )
    op.create_index(op.f("ix_tracked_inputs_dataset_id"), "tracked_inputs", ["dataset_id"], unique=False)
    op.create_table(
        "tracked_latest_metrics",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["tracked_runs.id"],
            name=op.f("fk_tracked_latest_metrics_run_id_tracked_runs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_tracked_latest_metrics")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tracked_metrics",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["tracked_runs.id"], name=op.f("fk_tracked_metrics_run_id_tracked_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "key", "timestamp_ms", "step", "value", "is_nan", name=op.f("pk_tracked_metrics")
        ),
        sqlite_with_rowid=False,
    )

    now_ms = time.time_ns() // 1_000_000
    op.execute(
        "INSERT INTO tracked_experiments (id, name, artifact_location, lifecycle, created_ms, updated_ms)"
        f" VALUES (0, 'Default', 'mlflow-artifacts:/0', 'active', {now_ms}, {now_ms})"
    )
