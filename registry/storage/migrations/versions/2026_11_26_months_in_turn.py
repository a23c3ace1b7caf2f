"""A month of the audit log is made while nothing can be numbered into it: an entry that came between the look and the
making made that fail.
"""

from registry.storage.migrations.scripts import run

revision = "2026_11_26_months_in_turn"
down_revision = "2026_11_26_quota_given_back"
branch_labels = None
depends_on = None

PREPARE = """
CREATE OR REPLACE FUNCTION audit_prepare(moment timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    first timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
    name text := 'audit_log_' || to_char(first, 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('audit_prepare'));
    IF to_regclass(name) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    -- As the making itself will lock them, and in the same order.
    LOCK TABLE ONLY audit_log IN SHARE UPDATE EXCLUSIVE MODE;
    LOCK TABLE ONLY audit_log_rest IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (
        SELECT FROM audit_log_rest
        WHERE logged_at >= first AT TIME ZONE 'UTC'
            AND logged_at < (first + interval '1 month') AT TIME ZONE 'UTC'
    ) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF audit_log FOR VALUES FROM (%L) TO (%L)', name,
        first AT TIME ZONE 'UTC', (first + interval '1 month') AT TIME ZONE 'UTC');
    EXECUTE format('CREATE TRIGGER audit_log_is_not_emptied BEFORE TRUNCATE ON %I
        FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER audit_log_is_not_emptied', name);
    RETURN name;
END $$;
-- It runs with its owner's rights, so it must not meet a caller's temporary tables, which else are found first.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION audit_prepare(timestamptz) SET search_path = %I, pg_temp', current_schema());
END $$;
"""


def upgrade() -> None:
    run(PREPARE)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: an audit log does not go backwards.")
