"""The tables of what tracking clients log: experiments, runs, their values, logged and registered models.

Times are what the clients give and read: milliseconds since the Unix epoch (suffix `_ms`). A value that is not a number has
`is_nan` and a value of 0, because SQLite keeps no NaN. Keys and values have lengths that the clients' own limits bound.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from goldenloop.store.tables import Counter, Document, metadata

tracked_experiments = Table(
    "tracked_experiments",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),  # the first one, `Default`, is 0
    Column("name", String(500), nullable=False, unique=True),
    Column("artifact_location", Text, nullable=False),
    Column("lifecycle", String(8), nullable=False),  # active or deleted
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
)

tracked_runs = Table(
    "tracked_runs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("experiment_id", Counter, ForeignKey("tracked_experiments.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("user", String(256), nullable=False),
    Column("status", String(12), nullable=False),
    Column("lifecycle", String(8), nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger),
    Column("artifact_uri", Text, nullable=False),
    Index(None, "experiment_id", "start_ms", "id"),
)

# Every value of a metric that was logged. The same one again, as from a client that tries once more, is the same row.
tracked_metrics = Table(
    "tracked_metrics",
    metadata,
    Column("run_id", String(32), ForeignKey("tracked_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("timestamp_ms", BigInteger, primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("value", Float, primary_key=True),
    Column("is_nan", Boolean, primary_key=True),
    sqlite_with_rowid=False,
)

# The value of each metric that counts: of the highest step, of those the latest, of those the largest.
tracked_latest_metrics = Table(
    "tracked_latest_metrics",
    metadata,
    Column("run_id", String(32), ForeignKey("tracked_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Float, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Column("timestamp_ms", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Of runs and of logged models; their ids never meet.
tracked_params = Table(
    "tracked_params",
    metadata,
    Column("owner", String(40), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

# Of experiments, runs, logged models, registered models and their versions: `kind` says whose.
tracked_tags = Table(
    "tracked_tags",
    metadata,
    Column("kind", String(12), primary_key=True),
    Column("owner", String(40), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

tracked_datasets = Table(
    "tracked_datasets",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("experiment_id", Counter, ForeignKey("tracked_experiments.id"), nullable=False),
    Column("name", String(500), nullable=False),
    Column("digest", String(36), nullable=False),
    Column("source_type", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("profile", Text, nullable=False),
    UniqueConstraint("experiment_id", "name", "digest"),
)

tracked_inputs = Table(
    "tracked_inputs",
    metadata,
    Column("run_id", String(32), ForeignKey("tracked_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("dataset_id", Counter, ForeignKey("tracked_datasets.id"), primary_key=True),
    Column("context", String(500)),  # what it was used for: training, validation
    Column("tags", Document, nullable=False),
    Index(None, "dataset_id"),
)

logged_models = Table(
    "logged_models",
    metadata,
    Column("id", String(40), primary_key=True),  # m- and 32 digits
    Column("experiment_id", Counter, ForeignKey("tracked_experiments.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("artifact_uri", Text, nullable=False),
    Column("status", String(28), nullable=False),
    Column("status_message", Text, nullable=False),
    Column("model_type", Text, nullable=False),
    Column("source_run_id", String(32)),
    Column("lifecycle", String(8), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index(None, "experiment_id", "created_ms", "id"),
    Index(None, "source_run_id"),
)

# Values of metrics that say which logged model they measure, and on which data.
logged_model_metrics = Table(
    "logged_model_metrics",
    metadata,
    Column("model_id", String(40), ForeignKey("logged_models.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("run_id", String(32), primary_key=True),
    Column("timestamp_ms", BigInteger, primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("dataset_name", String(500), primary_key=True),
    Column("dataset_digest", String(36), primary_key=True),
    Column("value", Float, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

# Which logged models a run read or made.
run_models = Table(
    "run_models",
    metadata,
    Column("run_id", String(32), ForeignKey("tracked_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("direction", String(6), primary_key=True),  # INPUT or OUTPUT
    Column("model_id", String(40), primary_key=True),
    Column("step", BigInteger, nullable=False),
)

registered_models = Table(
    "registered_models",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("name", String(256), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    # What Kubeflow's Model Registry knows of a model beside.
    Column("external_id", String(256), unique=True),
    Column("details", Document, nullable=False),
)

registered_versions = Table(
    "registered_versions",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("model_id", Counter, ForeignKey("registered_models.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("name", String(256), nullable=False),  # the number as text, where nobody gave a name
    Column("source", Text, nullable=False),
    Column("run_id", String(32)),
    Column("run_link", Text, nullable=False),
    Column("logged_model_id", String(40)),
    Column("description", Text, nullable=False),
    Column("stage", String(12), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("external_id", String(256), unique=True),
    Column("details", Document, nullable=False),
    UniqueConstraint("model_id", "number"),
    UniqueConstraint("model_id", "name"),
    Index(None, "run_id"),
    Index(None, "logged_model_id"),
)

registered_aliases = Table(
    "registered_aliases",
    metadata,
    Column("model_id", Counter, ForeignKey("registered_models.id", ondelete="CASCADE"), primary_key=True),
    Column("alias", String(255), primary_key=True),
    Column("number", Integer, nullable=False),
)

# What else Kubeflow's Model Registry keeps: artifacts of versions, serving environments, inference services and what they serve.
registry_entries = Table(
    "registry_entries",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("kind", String(24), nullable=False),
    Column("parent_id", BigInteger, nullable=False),  # 0 where it stands alone
    Column("name", String(256), nullable=False),
    Column("external_id", String(256)),
    Column("document", Document, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    UniqueConstraint("kind", "parent_id", "name"),
    UniqueConstraint("kind", "external_id"),
)
