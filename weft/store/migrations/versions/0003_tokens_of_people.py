"""Tokens of people: an id to revoke them by, groups, and scopes.

Revision ID: 0003
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Widen the table of tokens."""
    for column in (
        sa.Column("id", sa.Text(), nullable=True),
        sa.Column("groups", sa.LargeBinary(), nullable=True),
        sa.Column("scopes", sa.LargeBinary(), nullable=True),
    ):
        op.add_column("tokens", column)
    named = sa.text("id IS NOT NULL")
    op.create_index("tokens_by_id", "tokens", ["id"], unique=True, sqlite_where=named, postgresql_where=named)
