"""Run migrations on the connection that ``weft.store.upgrade`` opened."""

from alembic import context

from weft.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
