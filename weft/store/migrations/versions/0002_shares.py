"""Fair shares: the queue is kept by owner, what runs is counted by owner, and an owner may have a limit of his own."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Replace the index that claims walked, and make the table of limits."""
    op.drop_index("jobs_claim", "jobs")
    op.create_index(
        "jobs_queue",
        "jobs",
        ["kind", "owner", sa.literal_column("priority DESC"), "id", "not_before"],
        unique=False,
        sqlite_where=sa.text("state = 'QUEUED'"),
        postgresql_where=sa.text("state = 'QUEUED'"),
    )
    op.create_index(
        "jobs_driven",
        "jobs",
        ["kind", "owner"],
        unique=False,
        sqlite_where=sa.text("lease_owner IS NOT NULL"),
        postgresql_where=sa.text("lease_owner IS NOT NULL"),
    )
    op.create_table(
        "shares",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.CheckConstraint("running >= 0", name="shares_running"),
        sa.PrimaryKeyConstraint("owner"),
    )
