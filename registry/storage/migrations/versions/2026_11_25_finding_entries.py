"""Entries are found by target, action, reason and claimed name in a log of millions, where nearly all are pulls."""

from registry.storage.migrations.scripts import run

revision = "2026_11_25_finding_entries"
down_revision = "2026_11_23_sealed_log"
branch_labels = None
depends_on = None

# Strangers may make a target longer than an index holds, so its beginning is indexed. Compared byte by byte, in every
# locale alike, a beginning is a range of the index.
INDEXES = """
CREATE INDEX audit_log_target ON audit_log ((left(target, 400) COLLATE "C"), logged_at, seq);
CREATE INDEX audit_log_stated ON audit_log ((left(stated, 400) COLLATE "C"), logged_at, seq) WHERE stated IS NOT NULL;
CREATE INDEX audit_log_claimed ON audit_log (actor_tag, logged_at, seq) WHERE actor_tag IS NOT NULL;
CREATE INDEX audit_log_besides_pulls ON audit_log (action COLLATE "C", logged_at, seq) WHERE action <> 'image.pull';
"""


def upgrade() -> None:
    run(INDEXES)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: an audit log does not go backwards.")
