"""First light: accounts, organizations, repositories, access, quotas, and an audit log that only grows."""

from registry.storage.migrations.scripts import run

revision = "2026_11_23"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE account (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    suspended_at timestamptz
);
CREATE TABLE users (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    name text NOT NULL UNIQUE,
    password_hash text,
    owner boolean NOT NULL,
    platform_admin boolean NOT NULL,
    generation integer NOT NULL,
    created_at timestamptz NOT NULL,
    created_by uuid,
    suspended_at timestamptz
);
CREATE INDEX ix_users_account_id ON users (account_id);
CREATE TABLE credential (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    kind text NOT NULL,
    name text NOT NULL,
    secret_hash bytea NOT NULL UNIQUE,
    level smallint NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    last_used_from text
);
CREATE INDEX credential_user ON credential (user_id, created_at);

CREATE TABLE organization (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    name text NOT NULL UNIQUE,
    created_by uuid,
    created_at timestamptz NOT NULL
);
CREATE INDEX ix_organization_account_id ON organization (account_id);

CREATE TABLE repository (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organization,
    name text NOT NULL,
    visibility text NOT NULL CONSTRAINT repository_visibility CHECK (visibility IN ('PUBLIC', 'PRIVATE')),
    category text NOT NULL,
    description text NOT NULL,
    created_by uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT repository_name UNIQUE (organization_id, name)
);
CREATE TABLE blob (
    digest text PRIMARY KEY,
    size bigint NOT NULL,
    stored_at timestamptz NOT NULL
);
CREATE TABLE repository_blob (
    repository_id uuid NOT NULL REFERENCES repository ON DELETE CASCADE,
    digest text NOT NULL REFERENCES blob,
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX repository_blob_digest ON repository_blob (digest);
CREATE TABLE manifest (
    repository_id uuid NOT NULL REFERENCES repository ON DELETE CASCADE,
    digest text NOT NULL,
    media_type text NOT NULL,
    artifact_type text,
    subject text,
    config_digest text,
    annotations jsonb NOT NULL,
    platforms jsonb NOT NULL,
    body bytea NOT NULL,
    size bigint NOT NULL,
    total_size bigint NOT NULL,
    pushed_by uuid,
    pushed_at timestamptz NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX manifest_subject ON manifest (repository_id, subject) WHERE subject IS NOT NULL;
CREATE INDEX manifest_pushed ON manifest (repository_id, pushed_at);
CREATE TABLE manifest_part (
    repository_id uuid NOT NULL,
    manifest_digest text NOT NULL,
    digest text NOT NULL,
    kind text NOT NULL,
    PRIMARY KEY (repository_id, manifest_digest, digest),
    FOREIGN KEY (repository_id, manifest_digest) REFERENCES manifest (repository_id, digest) ON DELETE CASCADE
);
CREATE INDEX manifest_part_digest ON manifest_part (repository_id, digest);
CREATE TABLE tag (
    repository_id uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    digest text NOT NULL,
    created_at timestamptz NOT NULL,
    pushed_by uuid,
    pushed_at timestamptz NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES manifest (repository_id, digest)
);
CREATE INDEX tag_digest ON tag (repository_id, digest);
CREATE INDEX tag_pushed ON tag (repository_id, pushed_at, name);
CREATE TABLE upload (
    id uuid PRIMARY KEY,
    repository_id uuid NOT NULL REFERENCES repository ON DELETE CASCADE,
    user_id uuid,
    received bigint NOT NULL,
    algorithm text NOT NULL,
    held bigint NOT NULL,
    lease uuid,
    leased_until timestamptz,
    started_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX ix_upload_repository_id ON upload (repository_id);
CREATE INDEX upload_expiry ON upload (expires_at);
CREATE INDEX upload_user ON upload (user_id);
CREATE TABLE pull_count (
    repository_id uuid NOT NULL,
    tag text COLLATE "C" NOT NULL,
    pulls bigint NOT NULL,
    last_pulled_at timestamptz NOT NULL,
    PRIMARY KEY (repository_id, tag)
);

CREATE TABLE organization_permission (
    organization_id uuid NOT NULL REFERENCES organization ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    level smallint NOT NULL CONSTRAINT organization_permission_level CHECK (level IN (1, 3, 7)),
    granted_by uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX ix_organization_permission_user_id ON organization_permission (user_id);
CREATE TABLE repository_permission (
    repository_id uuid NOT NULL REFERENCES repository ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    level smallint NOT NULL CONSTRAINT repository_permission_level CHECK (level IN (1, 3, 7)),
    granted_by uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (repository_id, user_id)
);
CREATE INDEX ix_repository_permission_user_id ON repository_permission (user_id);
CREATE TABLE share (
    id uuid PRIMARY KEY,
    repository_id uuid NOT NULL REFERENCES repository ON DELETE CASCADE,
    account_id uuid NOT NULL REFERENCES account,
    description text NOT NULL,
    expires_at timestamptz,
    created_by uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX share_repository_account ON share (repository_id, account_id);
CREATE INDEX share_account ON share (account_id, created_at);
"""

QUOTAS = """
CREATE TABLE quota_counter (
    scope_kind text NOT NULL,
    scope_id uuid NOT NULL,
    key text NOT NULL,
    charged bigint NOT NULL CONSTRAINT quota_counter_charged CHECK (charged >= 0),
    explicit boolean NOT NULL,
    hard bigint,
    PRIMARY KEY (scope_kind, scope_id, key)
) WITH (fillfactor = 50);
CREATE TABLE organization_blob (
    organization_id uuid NOT NULL REFERENCES organization,
    digest text NOT NULL,
    size bigint NOT NULL,
    links bigint NOT NULL,
    first_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, digest)
);

-- Charges all lines in the order given, or none: then it returns the first that has no room.
-- Callers order lines leaf to root, so that the busiest row is locked last and no two ever wait for each other.
-- A counter that is missing may be made by another at this very moment, so the charge is always tried again on it.
CREATE FUNCTION quota_charge(kinds text[], ids uuid[], keys text[], amounts bigint[], defaults bigint[])
RETURNS TABLE (at_kind text, at_id uuid, at_key text, at_hard bigint, at_charged bigint, at_requested bigint)
LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. coalesce(array_length(keys, 1), 0) LOOP
        FOR attempt IN 1 .. 2 LOOP
            UPDATE quota_counter AS q SET charged = q.charged + amounts[i]
            WHERE q.scope_kind = kinds[i] AND q.scope_id = ids[i] AND q.key = keys[i]
                AND (amounts[i] <= 0 OR coalesce(
                    q.charged + amounts[i] <= CASE WHEN q.explicit THEN q.hard ELSE defaults[i] END, true));
            EXIT WHEN FOUND;
            INSERT INTO quota_counter VALUES (kinds[i], ids[i], keys[i], 0, false, NULL) ON CONFLICT DO NOTHING;
            IF attempt = 2 THEN
                FOR j IN 1 .. i - 1 LOOP
                    UPDATE quota_counter AS q SET charged = q.charged - amounts[j]
                    WHERE q.scope_kind = kinds[j] AND q.scope_id = ids[j] AND q.key = keys[j];
                END LOOP;
                RETURN QUERY SELECT kinds[i], ids[i], keys[i],
                    CASE WHEN q.explicit THEN q.hard ELSE defaults[i] END, q.charged, amounts[i]
                    FROM quota_counter q
                    WHERE q.scope_kind = kinds[i] AND q.scope_id = ids[i] AND q.key = keys[i];
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END $$;
"""

AUDIT = """
CREATE TABLE audit_log (
    recorded_at timestamptz NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    event_id uuid NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL,
    reason_code text,
    reason text,
    actor_kind text NOT NULL,
    actor_id uuid,
    actor_name text NOT NULL,
    credential_id uuid,
    account_id uuid,
    organization_id uuid,
    repository_id uuid,
    target text NOT NULL,
    digest text,
    source text,
    client text,
    request_id text,
    changes jsonb NOT NULL,
    PRIMARY KEY (recorded_at, id)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX audit_log_account ON audit_log (account_id, recorded_at, id);
CREATE INDEX audit_log_actor ON audit_log (actor_name, recorded_at, id);
CREATE INDEX audit_log_refused ON audit_log (recorded_at, id) WHERE outcome <> 'ALLOWED';
CREATE INDEX audit_log_request ON audit_log (request_id);

CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log only grows: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_log_only_grows BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_log_is_not_emptied BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
-- Always: other triggers rest where a session says that it is a replica.
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_only_grows;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_is_not_emptied;

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
        WHERE recorded_at >= first AT TIME ZONE 'UTC'
            AND recorded_at < (first + interval '1 month') AT TIME ZONE 'UTC'
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
REVOKE EXECUTE ON FUNCTION audit_prepare(timestamptz) FROM PUBLIC;
-- It runs with its owner's rights, so it must not meet a caller's temporary tables, which else are found first.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION audit_prepare(timestamptz) SET search_path = %I, pg_temp', current_schema());
END $$;
"""

# The server works under a role that owns nothing. Where the migrating user may not make roles, or the role belongs to
# somebody else, the triggers still hold; `tidewaiter doctor` says which it is.
ROLE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidewaiter_app') THEN
        CREATE ROLE tidewaiter_app NOLOGIN;
    END IF;
    EXECUTE format('GRANT tidewaiter_app TO %I', current_user);
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
    RAISE NOTICE 'the role tidewaiter_app could not be made or joined';
END $$;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidewaiter_app') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO tidewaiter_app', current_schema());
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO tidewaiter_app',
            current_schema());
        REVOKE ALL ON audit_log, audit_log_rest, alembic_version FROM tidewaiter_app;
        GRANT SELECT, INSERT ON audit_log TO tidewaiter_app;
        GRANT SELECT ON alembic_version TO tidewaiter_app;
        GRANT EXECUTE ON FUNCTION audit_prepare(timestamptz) TO tidewaiter_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    for statements in (TABLES, QUOTAS, AUDIT, ROLE):
        run(statements)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: an audit log does not go backwards.")
