"""Every table of the installation. Times are microseconds since the Unix epoch; documents are JSON."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Document = JSON().with_variant(postgresql.JSONB(), "postgresql")
# SQLite only counts up by itself in a column of type INTEGER.
Counter = BigInteger().with_variant(Integer(), "sqlite")

resources = Table(
    "resources",
    metadata,
    Column("uid", String(36), primary_key=True),
    Column("api_group", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("namespace", String(63), nullable=False),
    Column("name", String(253), nullable=False),
    Column("owner_uid", String(36)),
    Column("resource_version", BigInteger, nullable=False),
    Column("document", Document, nullable=False),
    UniqueConstraint("api_group", "kind", "namespace", "name"),
    Index(None, "owner_uid"),
)

# What happened to resources, in order: what watchers follow. Old rows are dropped; a watcher that asks for them is told "Gone".
changes = Table(
    "changes",
    metadata,
    Column("sequence", Counter, primary_key=True, autoincrement=True),
    Column("type", String(8), nullable=False),
    Column("api_group", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("namespace", String(63), nullable=False),
    Column("document", Document, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("name", String(253), nullable=False),
    Column("loop", String(253)),
    # One cause starts one run: the key is unique, so that a second attempt to start it finds the first.
    Column("cause_key", String(128), unique=True),
    Column("cause", Document, nullable=False),
    Column("state", String(16), nullable=False),
    Column("pipeline", Document, nullable=False),
    Column("parameters", Document, nullable=False),
    Column("inputs", Document, nullable=False),
    Column("code", Document, nullable=False),
    Column("event_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("finished_us", BigInteger),
    Column("error", Text),
    Column("settled", Boolean, nullable=False, default=False),  # what follows from its end has been done
    # What KFP's API knows of a run beside what runs it.
    Column("experiment_id", String(36)),
    Column("pipeline_id", String(36)),
    Column("version_id", String(36)),
    Column("started_by", String(36)),  # the recurring run or the Trigger
    Column("description", Text, nullable=False, server_default=text("''")),
    Column("storage_state", String(16), nullable=False, server_default="AVAILABLE"),
    Column("scheduled_us", BigInteger),
    Column("settings", Document),  # what was asked for and only shown again: pipeline root, service account
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("revision", Integer, nullable=False, server_default="0"),  # counts what others than the engine did to it
    Column("warnings", Document),  # what was asked for and has no counterpart here
    Index(None, "state"),
    Index(None, "namespace", "loop", "created_us"),
    # With the storage state, so that a page is found without reading the rows, which are long.
    Index(None, "namespace", "created_us", "id", "storage_state"),
    Index(None, "experiment_id", "created_us", "id", "storage_state"),
    Index(None, "started_by", "state"),
    Index(None, "finished_us"),
)

# Steps, and what holds them: nested pipelines, branches, loops and their rounds.
tasks = Table(
    "tasks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("run_id", String(36), ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),  # the path from the root: `prepare.clean`, `loop[3].train`
    Column("scope", Text, nullable=False, server_default=text("''")),  # the path of what it stands in
    Column("kind", String(16), nullable=False, server_default="step"),
    Column("round", Integer),  # the number of a round of a loop, from 0
    Column("component", String(253), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),  # attempts that have failed
    Column("forgiven", Integer, nullable=False, server_default="0"),  # those of them before somebody asked to try again
    Column("not_before_us", BigInteger),
    Column("cache_key", String(64)),
    Column("cached_from", String(36)),
    Column("inputs", Document),
    Column("outputs", Document),
    Column("started_us", BigInteger),
    Column("finished_us", BigInteger),
    Column("error", Text),
    UniqueConstraint("run_id", "name"),
    Index(None, "cache_key", "state"),
    Index(None, "run_id", "scope", "round"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("type", String(128), nullable=False),
    Column("name", String(253), nullable=False),
    Column("uri", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("properties", Document, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index(None, "digest"),
)

# The arrows of the lineage graph: a task read or wrote an artifact.
artifact_tasks = Table(
    "artifact_tasks",
    metadata,
    Column("task_id", String(36), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("direction", String(6), primary_key=True),  # INPUT or OUTPUT
    Column("port", String(253), primary_key=True),
    Column("position", Integer, primary_key=True, server_default="0"),  # a port may carry a list
    Column("artifact_id", String(36), ForeignKey("artifacts.id"), nullable=False),
    Index(None, "artifact_id"),
)

versions = Table(
    "versions",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("model", String(253), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column(
        "golden_order", Integer
    ),  # counts the changes of a model's golden version; that of the last time it became it
    Column("run_id", String(36)),
    Column("artifact_id", String(36)),
    Column("digest", String(64), nullable=False),  # of the served form
    Column("folder", Text, nullable=False),  # artifact URI of the served form
    Column("signature", Document, nullable=False),
    Column("metrics", Document, nullable=False),
    Column("conversion", Document, nullable=False),
    Column("data_version", Document, nullable=False),
    Column("code_version", Document, nullable=False),
    Column("trained_until_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Index(None, "digest"),
    Index(None, "run_id"),
)

# Where a version comes from, as it was signed when it was registered.
attestations = Table(
    "attestations",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("model", String(253), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("key", String(64), nullable=False),  # the SHA-256 of its public half
    Column("bundle", Document, nullable=False),  # a Sigstore bundle
    Column("created_us", BigInteger, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("model", String(253), nullable=False),
    Column("challenger", Integer, nullable=False),
    Column("champion", Integer),
    Column("verdict", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Document, nullable=False),
    Column("decided_by", String(128), nullable=False),
    Column("person", String(253), nullable=False, server_default=text("''")),  # the name, where a person decided
    Column("created_us", BigInteger, nullable=False),
    Index(None, "namespace", "model", "challenger"),
)

measurements = Table(
    "measurements",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("namespace", String(63), nullable=False),
    Column("loop", String(253), nullable=False),
    Column("monitor", String(64), nullable=False),
    Column("metric", String(64), nullable=False),
    Column("feature", String(253), nullable=False, default=""),
    Column(
        "slice", String(253), nullable=False, server_default=text("''")
    ),  # "sex=female,age_band=old"; "" is all rows
    Column("version", String(32), nullable=False, default=""),
    Column("window", Integer, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("value", Float),
    Column("low", Float),  # the interval of the value
    Column("high", Float),
    Column("threshold", Float),
    Column("verdict", String(16), nullable=False),
    Column("note", Text, nullable=False, default=""),
    UniqueConstraint("namespace", "loop", "monitor", "metric", "feature", "slice", "version", "window"),
    Index(None, "namespace", "loop", "window"),
)

# The strangest rows of a window, found again by the id of their prediction.
flagged_rows = Table(
    "flagged_rows",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("namespace", String(63), nullable=False),
    Column("loop", String(253), nullable=False),
    Column("window", Integer, nullable=False),
    Column("version", String(32), nullable=False),
    Column("monitor", String(64), nullable=False),
    Column("prediction", String(36), nullable=False),
    Column("row", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Column("threshold", Float),
    Column("note", Text, nullable=False),
    Index(None, "namespace", "loop", "prediction"),
)

# Every decision of a trigger, to fire or not, with its reason. One that fired and has no run yet is work to do.
decisions = Table(
    "decisions",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("namespace", String(63), nullable=False),
    Column("loop", String(253), nullable=False),
    Column("cause_key", String(128), nullable=False),
    Column("fired", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Document, nullable=False),
    Column("run_id", String(36)),
    Column("settled", Boolean, nullable=False, default=False),  # its run was started, or it came to nothing
    Column("event_us", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("trigger_uid", String(36)),  # the Trigger, where it is one of its own and not a loop's
    UniqueConstraint("cause_key", "event_us"),
    Index(None, "namespace", "loop", "event_us"),
    Index(None, "trigger_uid", "settled", "id"),
)

timeline = Table(
    "timeline",
    metadata,
    Column("sequence", Counter, primary_key=True, autoincrement=True),
    Column("namespace", String(63), nullable=False),
    Column("loop", String(253), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("text", Text, nullable=False),
    Column("facts", Document, nullable=False),
    Column("event_us", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index(None, "namespace", "loop", "sequence"),
)

# What people are to be told, a line for each channel, written with the line of the timeline. `next_us`: when it is tried (again).
messages = Table(
    "messages",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("loop", String(253), nullable=False),
    Column("channel", String(63), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("text", Text, nullable=False),
    Column("facts", Document, nullable=False),
    Column("event_us", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),  # waiting, sent, failed or dropped
    Column("attempts", Integer, nullable=False),
    Column("next_us", BigInteger, nullable=False),
    Column("error", Text, nullable=False),  # of the last attempt
    Column("ended_us", BigInteger),
    Index(None, "state", "next_us"),
    Index(None, "namespace", "loop", "channel", "state"),
)

# What lasts, for Alertmanagers: it fires until it has ended, and goes when each of them has heard so (`told`, names of channels).
alerts = Table(
    "alerts",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("namespace", String(63), nullable=False),
    Column("loop", String(253), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("instance", String(253), nullable=False),  # the monitor, the SLO, the version
    Column("text", Text, nullable=False),
    Column("facts", Document, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("told", Document, nullable=False),
    Column("error", Text, nullable=False),  # of the last attempt
    Index(None, "namespace", "loop", "ended_us"),
)

# Values of business metrics that wait for their windows to be judged.
business_values = Table(
    "business_values",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("loop", String(253), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("at_us", BigInteger, primary_key=True),
    Column("value", Double, nullable=False),
)

# What a reconciler must remember between two looks: positions and the states of running statistics, written with what they caused.
memories = Table(
    "memories",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("loop", String(253), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("document", Document, nullable=False),
)

# Who did what, in order. Each entry has the digest of itself and of the one before, so that none can be changed or left out unseen.
audit_entries = Table(
    "audit_entries",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String(253), nullable=False),
    Column("action", String(32), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("namespace", String(63), nullable=False),
    Column("name", Text, nullable=False),
    Column("facts", Text, nullable=False),  # JSON, kept as it was digested
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Index(None, "namespace", "name", "sequence"),
)

experiments = Table(
    "experiments",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("name", String(253), nullable=False),
    Column("description", Text, nullable=False),
    Column("storage_state", String(16), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("last_run_us", BigInteger),
    UniqueConstraint("namespace", "name"),
    Index(None, "namespace", "created_us", "id"),
)

pipelines = Table(
    "pipelines",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("name", String(253), nullable=False),
    Column("display_name", String(253), nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Document, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    UniqueConstraint("namespace", "name"),
    Index(None, "namespace", "created_us", "id"),
)

pipeline_versions = Table(
    "pipeline_versions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("pipeline_id", String(36), ForeignKey("pipelines.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(253), nullable=False),
    Column("display_name", String(253), nullable=False),
    Column("description", Text, nullable=False),
    Column("spec", Document, nullable=False),
    Column("platform", Document),
    Column("code_source_url", Text, nullable=False),
    Column("package_url", Text, nullable=False),
    Column("tags", Document, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    UniqueConstraint("pipeline_id", "name"),
    Index(None, "pipeline_id", "created_us", "id"),
)

recurring_runs = Table(
    "recurring_runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("name", String(253), nullable=False),
    Column("description", Text, nullable=False),
    Column("experiment_id", String(36), nullable=False),
    Column("pipeline_id", String(36)),  # with no version: the newest one, at each start
    Column("version_id", String(36)),
    Column("spec", Document),  # the pipeline itself, where none of the catalog is named
    Column("platform", Document),
    Column("parameters", Document, nullable=False),
    Column("settings", Document),
    Column("schedule", Document, nullable=False),
    Column("catch_up", Boolean, nullable=False),
    Column("max_concurrency", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("started", Integer, nullable=False),  # how many runs it has started
    Column("last_slot_us", BigInteger),
    Column("next_slot_us", BigInteger),  # none where the schedule has ended
    Column("error", Text),  # why the last slot came to nothing
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index(None, "namespace", "created_us", "id"),
    Index(None, "experiment_id", "created_us", "id"),
    Index(None, "enabled", "next_slot_us"),
)

# What was good, and what there was at all, of an SLO that the wall clock counts: running totals, once a minute. A difference of two rows is
# what happened between them. `seen` is what the counters said, which begin anew with the workers.
indicator_totals = Table(
    "indicator_totals",
    metadata,
    Column("slo", String(300), primary_key=True),  # the uid of the SLO, and which of its objectives
    Column("at_us", BigInteger, primary_key=True),
    Column("good", Double, nullable=False),
    Column("total", Double, nullable=False),
    Column("seen_good", Double, nullable=False),
    Column("seen_total", Double, nullable=False),
)

# The lineage graph: nodes of three kinds (artifacts, executions, contexts), each of a type, and what links them. Ids are drawn by who
# writes, in the transaction that has the write lock (`lineage.graph`), so that many rows go in at once.
graph_types = Table(
    "graph_types",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("description", Text),
    Column("external_id", Text),
    Column("base", SmallInteger),  # what it is in the terms of the field: a dataset, a model, training
    Column("properties", Document, nullable=False),  # the type of each property's value
    Column("input_type", LargeBinary),
    Column("output_type", LargeBinary),
    UniqueConstraint("kind", "name", "version"),
    UniqueConstraint("kind", "external_id"),
)

graph_nodes = Table(
    "graph_nodes",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),
    Column("type_id", BigInteger, ForeignKey("graph_types.id"), nullable=False),
    Column("name", Text),
    Column("external_id", Text),  # what others know it by
    Column("uri", Text),
    Column("state", SmallInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    UniqueConstraint("type_id", "name"),
    UniqueConstraint("kind", "external_id"),
    Index(None, "kind", "id"),
    Index(None, "kind", "created_us", "id"),
    Index(None, "kind", "updated_us", "id"),
    Index(None, "uri", postgresql_using="hash"),  # addresses may be longer than what a tree of PostgreSQL takes
)

graph_properties = Table(
    "graph_properties",
    metadata,
    Column("node_id", BigInteger, ForeignKey("graph_nodes.id"), primary_key=True),
    Column("is_custom", Boolean, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("kind", SmallInteger, nullable=False),  # which of the values is there
    Column("int_value", BigInteger),
    Column("double_value", Double),
    Column("string_value", Text),
    Column("bool_value", Boolean),
    Column("message", LargeBinary),
    sqlite_with_rowid=False,
)

graph_events = Table(
    "graph_events",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=False),
    Column("artifact_id", BigInteger, ForeignKey("graph_nodes.id"), nullable=False),
    Column("execution_id", BigInteger, ForeignKey("graph_nodes.id"), nullable=False),
    Column("type", SmallInteger, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),  # since the Unix epoch, as the client says
    Column("path", Document),
    UniqueConstraint("artifact_id", "execution_id", "type"),
    Index(None, "execution_id", "artifact_id", "type"),
)

# The artifacts and executions of contexts.
graph_members = Table(
    "graph_members",
    metadata,
    Column("context_id", BigInteger, ForeignKey("graph_nodes.id"), primary_key=True),
    Column("node_id", BigInteger, ForeignKey("graph_nodes.id"), primary_key=True),
    Index(None, "node_id", "context_id"),
    sqlite_with_rowid=False,
)

graph_parents = Table(
    "graph_parents",
    metadata,
    Column("child_id", BigInteger, ForeignKey("graph_nodes.id"), primary_key=True),
    Column("parent_id", BigInteger, ForeignKey("graph_nodes.id"), primary_key=True),
    Index(None, "parent_id", "child_id"),
    sqlite_with_rowid=False,
)
