"""The inbox takes no more than an entry can hold, so that nothing in it can hold up the one who reads it."""

from registry.storage.migrations.scripts import run

revision = "2026_11_25_small_bodies"
down_revision = "2026_11_25_finding_entries"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("ALTER TABLE audit_inbox ADD CONSTRAINT audit_inbox_small CHECK (octet_length(body) <= 65535)")


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: an audit log does not go backwards.")
