"""The site's project that a job belongs to, and what the policy's decision stood on."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add both to jobs; those that are there belong to no project."""
    op.add_column("jobs", sa.Column("project", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("grounds", sa.LargeBinary(), nullable=True))
    op.create_index(
        "jobs_by_project",
        "jobs",
        ["kind", "project", "id"],
        unique=False,
        sqlite_where=sa.text("project IS NOT NULL"),
        postgresql_where=sa.text("project IS NOT NULL"),
    )
