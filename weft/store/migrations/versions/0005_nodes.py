"""Federation: nodes, invitations, nonces and assignments at a hub; claims at a node."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables of both sides; a weft that never joins keeps them empty."""
    _nodes()
    _assignments()
    _claims()


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("standing", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.Double(), nullable=False),
        sa.Column("heard_at", sa.Double(), nullable=False),
        sa.Column("declared", sa.LargeBinary(), nullable=False),
        sa.Column("load", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("standing IN ('active', 'suspended')", name="nodes_standing"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "invites",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "nonces",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("node", "nonce"),
        sqlite_with_rowid=False,
    )
    op.create_index("nonces_by_end", "nonces", ["expires_at"], unique=False)


def _assignments() -> None:
    op.create_table(
        "assignments",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("told_at", sa.Double(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.LargeBinary(), nullable=True),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("stage IN ('offered', 'sent', 'taken', 'ended', 'withdrawn')", name="assignments_stage"),
        sa.CheckConstraint("kind IN ('run', 'task')", name="assignments_kind"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("assignments_by_node", "assignments", ["node", "stage"], unique=False)


def _claims() -> None:
    op.create_table(
        "claims",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("said", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.CheckConstraint("job_id IS NOT NULL OR refusal IS NOT NULL", name="claims_say_something"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("claims_by_job", "claims", ["job_id"], unique=False)
    op.create_index(
        "claims_open",
        "claims",
        ["key"],
        unique=False,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
