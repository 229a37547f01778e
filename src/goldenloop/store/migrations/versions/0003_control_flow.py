"""Control flow in runs: what holds other tasks has rows of its own, ports carry lists of artifacts, runs have priorities."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; paths of tasks may be long, and a port of a task has an arrow for each of its artifacts."""
    # What an unfinished run has done in nested pipelines is noted in another way now: such a run starts again.
    nested = "SELECT run_id FROM tasks WHERE name LIKE '%.%'"
    op.execute(f"UPDATE runs SET state = 'PENDING' WHERE state = 'RUNNING' AND id IN ({nested})")
    anew = "SELECT id FROM runs WHERE state = 'PENDING'"
    op.execute(f"DELETE FROM artifact_tasks WHERE task_id IN (SELECT id FROM tasks WHERE run_id IN ({anew}))")
    op.execute(f"DELETE FROM tasks WHERE run_id IN ({anew})")
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        runs.add_column(sa.Column("revision", sa.Integer(), nullable=False, server_default="0"))
        runs.add_column(sa.Column("warnings", document, nullable=True))
    with op.batch_alter_table("tasks") as tasks:
        tasks.alter_column("name", existing_type=sa.String(length=253), type_=sa.Text(), existing_nullable=False)
        tasks.add_column(sa.Column("scope", sa.Text(), nullable=False, server_default=sa.text("''")))
        tasks.add_column(sa.Column("kind", sa.String(length=16), nullable=False, server_default="step"))
        tasks.add_column(sa.Column("round", sa.Integer(), nullable=True))
        tasks.add_column(sa.Column("forgiven", sa.Integer(), nullable=False, server_default="0"))
        tasks.create_index(op.f("ix_tasks_run_id_scope_round"), ["run_id", "scope", "round"], unique=False)
    with op.batch_alter_table("artifact_tasks") as arrows:
        arrows.add_column(sa.Column("position", sa.Integer(), nullable=False, server_default="0"))
        arrows.drop_constraint(op.f("pk_artifact_tasks"), type_="primary")
        arrows.create_primary_key(op.f("pk_artifact_tasks"), ["task_id", "direction", "port", "position"])
