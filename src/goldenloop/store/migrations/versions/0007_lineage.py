"""The lineage graph: types, nodes (artifacts, executions, contexts), their properties, and what links them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables."""
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    counter = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "graph_types",
        sa.Column("id", counter, autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("base", sa.SmallInteger(), nullable=True),
        sa.Column("properties", document, nullable=False),
        sa.Column("input_type", sa.LargeBinary(), nullable=True),
        sa.Column("output_type", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_graph_types")),
        sa.UniqueConstraint("kind", "name", "version", name=op.f("uq_graph_types_kind_name_version")),
        sa.UniqueConstraint("kind", "external_id", name=op.f("uq_graph_types_kind_external_id")),
    )
    op.create_table(
        "graph_nodes",
        sa.Column("id", counter, autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("type_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("uri", sa.Text(), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["type_id"], ["graph_types.id"], name=op.f("fk_graph_nodes_type_id_graph_types")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_graph_nodes")),
        sa.UniqueConstraint("type_id", "name", name=op.f("uq_graph_nodes_type_id_name")),
        sa.UniqueConstraint("kind", "external_id", name=op.f("uq_graph_nodes_kind_external_id")),
    )
    op.create_index(op.f("ix_graph_nodes_kind_id"), "graph_nodes", ["kind", "id"])
    op.create_index(op.f("ix_graph_nodes_kind_created_us_id"), "graph_nodes", ["kind", "created_us", "id"])
    op.create_index(op.f("ix_graph_nodes_kind_updated_us_id"), "graph_nodes", ["kind", "updated_us", "id"])
    op.create_index(op.f("ix_graph_nodes_uri"), "graph_nodes", ["uri"], postgresql_using="hash")
    op.create_table(
        "graph_properties",
        _node("node_id"),
        sa.Column("is_custom", sa.Boolean(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("int_value", sa.BigInteger(), nullable=True),
        sa.Column("double_value", sa.Double(), nullable=True),
        sa.Column("string_value", sa.Text(), nullable=True),
        sa.Column("bool_value", sa.Boolean(), nullable=True),
        sa.Column("message", sa.LargeBinary(), nullable=True),
        _of_node("graph_properties", "node_id"),
        sa.PrimaryKeyConstraint("node_id", "is_custom", "name", name=op.f("pk_graph_properties")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "graph_events",
        sa.Column("id", counter, autoincrement=False, nullable=False),
        _node("artifact_id"),
        _node("execution_id"),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=False),
        sa.Column("path", document, nullable=True),
        _of_node("graph_events", "artifact_id"),
        _of_node("graph_events", "execution_id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_graph_events")),
        sa.UniqueConstraint(
            "artifact_id", "execution_id", "type", name=op.f("uq_graph_events_artifact_id_execution_id_type")
        ),
    )
    op.create_index(
        op.f("ix_graph_events_execution_id_artifact_id_type"), "graph_events", ["execution_id", "artifact_id", "type"]
    )
    for table, first, second in (
        ("graph_members", "context_id", "node_id"),
        ("graph_parents", "child_id", "parent_id"),
    ):
        op.create_table(
            table,
            _node(first),
            _node(second),
            _of_node(table, first),
            _of_node(table, second),
            sa.PrimaryKeyConstraint(first, second, name=op.f(f"pk_{table}")),
            sqlite_with_rowid=False,
        )
        op.create_index(op.f(f"ix_{table}_{second}_{first}"), table, [second, first])


def _node(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _of_node(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["graph_nodes.id"], name=op.f(f"fk_{table}_{column}_graph_nodes"))
