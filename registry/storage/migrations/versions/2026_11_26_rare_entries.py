"""What failed is found among what was denied, what the system or nobody did among what users do, and a word in the
midst of a reason among all reasons."""

from registry.storage.migrations.scripts import run

revision = "2026_11_26_rare_entries"
down_revision = "2026_11_25_small_bodies"
branch_labels = None
depends_on = None

INDEXES = """
DROP INDEX audit_log_refused;
CREATE INDEX audit_log_refused ON audit_log (outcome, logged_at, seq) WHERE outcome <> 'allowed';
CREATE INDEX audit_log_nobody ON audit_log (actor_kind, logged_at, seq) WHERE actor_id IS NULL;
CREATE INDEX audit_log_reasons ON audit_log (logged_at, seq) WHERE stated IS NOT NULL;
"""


def upgrade() -> None:
    run(INDEXES)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: an audit log does not go backwards.")
