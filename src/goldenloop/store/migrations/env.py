"""Alembic's entry: runs the migrations on the connection that `Database.migrate` hands over."""

from alembic import context

import goldenloop.store.tracking_tables  # noqa: F401  its tables join the others
from goldenloop.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
