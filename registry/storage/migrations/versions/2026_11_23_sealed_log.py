"""The audit log as a tree: inbox, numbered entries, tiles, checkpoints, and the keys of what is sealed."""

from registry.storage.migrations.scripts import run

revision = "2026_11_23_sealed_log"
down_revision = "2026_11_23"
branch_labels = None
depends_on = None

# Entries of before were never numbered nor hashed. They are kept beside the log, and nothing is added to them.
OLD = """
DO $$
DECLARE
    part record;
BEGIN
    IF NOT EXISTS (SELECT FROM audit_log) THEN
        DROP TABLE audit_log;
        RETURN;
    END IF;
    FOR part IN SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'audit_log'::regclass LOOP
        EXECUTE format('ALTER TABLE %I RENAME TO %I', part.name, replace(part.name, 'audit_log', 'audit_unsealed'));
    END LOOP;
    ALTER TABLE audit_log RENAME TO audit_unsealed;
    ALTER INDEX audit_log_pkey RENAME TO audit_unsealed_pkey;
    ALTER INDEX audit_log_account RENAME TO audit_unsealed_account;
    ALTER INDEX audit_log_actor RENAME TO audit_unsealed_actor;
    ALTER INDEX audit_log_refused RENAME TO audit_unsealed_refused;
    ALTER INDEX audit_log_request RENAME TO audit_unsealed_request;
END $$;
DROP FUNCTION audit_prepare(timestamptz);
"""

LOG = """
-- A session that caches identities would break the order in which entries are numbered.
CREATE TABLE audit_inbox (
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    body bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

CREATE TABLE audit_log (
    logged_at timestamptz NOT NULL,
    seq bigint NOT NULL,
    entry bytea NOT NULL,
    leaf bytea NOT NULL,
    event_id uuid NOT NULL,
    account_id uuid,
    organization_id uuid,
    org_seq bigint,
    repository_id uuid,
    actor_kind text NOT NULL,
    actor_id uuid,
    action text NOT NULL,
    outcome text NOT NULL,
    target text NOT NULL,
    stated text,
    request_id text,
    actor_tag bigint,
    source_tag bigint,
    PRIMARY KEY (logged_at, seq)
) PARTITION BY RANGE (logged_at);
CREATE INDEX audit_log_account ON audit_log (account_id, logged_at, seq);
CREATE INDEX audit_log_actor ON audit_log (actor_id, logged_at, seq);
CREATE INDEX audit_log_refused ON audit_log (logged_at, seq) WHERE outcome <> 'allowed';
CREATE INDEX audit_log_request ON audit_log (request_id);
CREATE INDEX audit_log_source ON audit_log (source_tag, logged_at, seq);

CREATE TABLE audit_tile (
    level smallint NOT NULL,
    idx bigint NOT NULL,
    data bytea NOT NULL CHECK (length(data) = 8192),
    last_at timestamptz NOT NULL,
    PRIMARY KEY (level, idx)
);
-- The hashes are noise: compressing them only costs time.
ALTER TABLE audit_tile ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE audit_tree (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    size bigint NOT NULL,
    edge bytea[] NOT NULL,
    last_at timestamptz NOT NULL
);
INSERT INTO audit_tree (size, edge, last_at) VALUES (0, '{}', '-infinity');

CREATE TABLE audit_checkpoint (
    origin text NOT NULL,
    size bigint NOT NULL,
    root bytea NOT NULL,
    note text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (origin, size, at)
);
CREATE INDEX audit_checkpoint_newest ON audit_checkpoint (at, size);

CREATE TABLE audit_org_head (
    organization_id uuid PRIMARY KEY,
    org_seq bigint NOT NULL
);

CREATE TABLE audit_subject (
    subject text PRIMARY KEY,
    wrapped bytea,
    erased_at timestamptz
);

CREATE TABLE audit_scrub (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    begun_at timestamptz NOT NULL,
    ended_at timestamptz,
    finding text
);
INSERT INTO audit_scrub (begun_at) VALUES (now());

CREATE TABLE audit_segment (
    month date PRIMARY KEY,
    first_seq bigint,
    last_seq bigint,
    archive text,
    digest text,
    verified_at timestamptz,
    dropped_at timestamptz,
    legal_hold boolean NOT NULL DEFAULT false
);
"""

ONLY_GROWS = """
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_log', 'audit_tile', 'audit_checkpoint'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON %I
            FOR EACH ROW EXECUTE FUNCTION audit_refuse()', name || '_only_grows', name);
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()', name || '_is_not_emptied', name);
        -- Always: other triggers rest where a session says that it is a replica.
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', name, name || '_only_grows');
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', name, name || '_is_not_emptied');
    END LOOP;
END $$;

-- Catches what falls outside the prepared months. Partitions inherit row triggers but not TRUNCATE triggers, so each
-- gets its own from the hand that makes it.
CREATE TABLE audit_log_rest PARTITION OF audit_log DEFAULT;
CREATE TRIGGER audit_log_is_not_emptied BEFORE TRUNCATE ON audit_log_rest
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_log_rest ENABLE ALWAYS TRIGGER audit_log_is_not_emptied;

CREATE FUNCTION audit_prepare(moment timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    first timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
    name text := 'audit_log_' || to_char(first, 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('audit_prepare'));
    IF to_regclass(name) IS NOT NULL OR EXISTS (
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

-- Takes one month out of the table. What has to hold before is checked here too, since this is the one way by which
-- entries leave the database: archived and read back, whole, and not under a legal hold.
CREATE FUNCTION audit_drop(segment date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    name text := 'audit_log_' || to_char(segment, 'YYYY_MM');
    kept audit_segment;
    ends bigint[];
BEGIN
    SELECT s.* INTO kept FROM audit_segment AS s
    WHERE s.month = segment AND s.verified_at IS NOT NULL AND NOT s.legal_hold AND s.dropped_at IS NULL
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the month % is not archived and verified, or under a legal hold', segment
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF to_regclass(name) IS NULL THEN
        RAISE EXCEPTION 'the month % has no partition of its own', segment USING ERRCODE = 'undefined_table';
    END IF;
    -- Nothing is added from here on. What was added after the archive was made is not in it.
    LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('SELECT ARRAY[(SELECT seq FROM %1$I ORDER BY logged_at, seq LIMIT 1),
        (SELECT seq FROM %1$I ORDER BY logged_at DESC, seq DESC LIMIT 1)]', name) INTO ends;
    IF ends IS DISTINCT FROM ARRAY[kept.first_seq, kept.last_seq] THEN
        RAISE EXCEPTION 'the month % holds entries %, its archive % to %', segment, ends, kept.first_seq, kept.last_seq
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    UPDATE audit_segment AS s SET dropped_at = now() WHERE s.month = segment;
    RETURN name;
END $$;
REVOKE EXECUTE ON FUNCTION audit_prepare(timestamptz), audit_drop(date) FROM PUBLIC;
-- They run with their owner's rights, so they must not meet a caller's temporary tables, which else are found first.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION audit_prepare(timestamptz) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION audit_drop(date) SET search_path = %I, pg_temp', current_schema());
END $$;
"""

# The sequencer's hand is another than the server's: the one may only put into the inbox, the other alone takes out of
# it and adds to the log, and neither can change what is written.
ROLES = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidewaiter_sequencer') THEN
        CREATE ROLE tidewaiter_sequencer NOLOGIN;
    END IF;
    EXECUTE format('GRANT tidewaiter_sequencer TO %I', current_user);
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
    RAISE NOTICE 'the role tidewaiter_sequencer could not be made or joined';
END $$;
DO $$
DECLARE
    tables text := 'audit_inbox, audit_log, audit_tile, audit_tree, audit_checkpoint, audit_org_head, audit_subject,
        audit_segment, audit_scrub';
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidewaiter_app') THEN
        EXECUTE format('GRANT SELECT ON %s TO tidewaiter_app', tables);
        GRANT INSERT ON audit_inbox, audit_subject TO tidewaiter_app;
        GRANT UPDATE (wrapped, erased_at) ON audit_subject TO tidewaiter_app;
        GRANT EXECUTE ON FUNCTION audit_prepare(timestamptz) TO tidewaiter_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidewaiter_sequencer') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO tidewaiter_sequencer', current_schema());
        EXECUTE format('GRANT SELECT ON %s TO tidewaiter_sequencer', tables);
        GRANT INSERT, DELETE ON audit_inbox TO tidewaiter_sequencer;
        GRANT INSERT ON audit_log, audit_tile, audit_checkpoint TO tidewaiter_sequencer;
        GRANT UPDATE ON audit_tree, audit_scrub TO tidewaiter_sequencer;
        GRANT INSERT, UPDATE ON audit_org_head, audit_segment TO tidewaiter_sequencer;
        GRANT EXECUTE ON FUNCTION audit_prepare(timestamptz), audit_drop(date) TO tidewaiter_sequencer;
    END IF;
END $$;
"""


def upgrade() -> None:
    for statements in (OLD, LOG, ONLY_GROWS, ROLES):
        run(statements)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: an audit log does not go backwards.")
