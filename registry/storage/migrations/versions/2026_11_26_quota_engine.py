"""The quota engine: holds that expire, refunds, leases of traffic, limits that warn, history, requests and a recount.

What was charged before is counted anew at the end, since repositories, users, access keys and shares have counters of
their own from here on.
"""

from registry.storage.migrations.scripts import run

revision = "2026_11_26_quota_engine"
down_revision = "2026_11_26_rare_entries"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE quota_counter
    ADD COLUMN soft bigint,
    ADD COLUMN period text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN peak bigint NOT NULL DEFAULT 0,
    ADD COLUMN sampled bigint NOT NULL DEFAULT 0,
    ADD COLUMN warned smallint NOT NULL DEFAULT 0,
    ADD COLUMN soft_warned boolean NOT NULL DEFAULT false;

CREATE TABLE quota_refund (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope_kind text NOT NULL,
    scope_id uuid NOT NULL,
    key text NOT NULL,
    period text COLLATE "C" NOT NULL DEFAULT '',
    amount bigint NOT NULL CONSTRAINT quota_refund_amount CHECK (amount > 0)
);
CREATE INDEX quota_refund_scope ON quota_refund (scope_kind, scope_id, key);

CREATE TABLE quota_lease (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL,
    key text NOT NULL,
    period text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    used bigint NOT NULL CONSTRAINT quota_lease_used CHECK (used BETWEEN 0 AND amount),
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX quota_lease_organization ON quota_lease (organization_id, key);
CREATE INDEX quota_lease_expiry ON quota_lease (expires_at);

-- What was pulled, by whom: nobody is the id of zeros, no tag is empty. The sum of a month is what its counter says.
CREATE TABLE traffic_hour (
    organization_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    repository_id uuid NOT NULL,
    tag text COLLATE "C" NOT NULL,
    user_id uuid NOT NULL,
    pulls bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (organization_id, hour, repository_id, tag, user_id)
);
CREATE TABLE traffic_day (
    organization_id uuid NOT NULL,
    day date NOT NULL,
    repository_id uuid NOT NULL,
    tag text COLLATE "C" NOT NULL,
    user_id uuid NOT NULL,
    pulls bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (organization_id, day, repository_id, tag, user_id)
);
CREATE TABLE usage_hour (
    scope_kind text NOT NULL,
    scope_id uuid NOT NULL,
    key text NOT NULL,
    hour timestamptz NOT NULL,
    value bigint NOT NULL,
    peak bigint NOT NULL,
    PRIMARY KEY (scope_kind, scope_id, key, hour)
);
CREATE TABLE usage_day (
    scope_kind text NOT NULL,
    scope_id uuid NOT NULL,
    key text NOT NULL,
    day date NOT NULL,
    value bigint NOT NULL,
    peak bigint NOT NULL,
    PRIMARY KEY (scope_kind, scope_id, key, day)
);

CREATE TABLE quota_request (
    id uuid PRIMARY KEY,
    scope_kind text NOT NULL,
    scope_id uuid NOT NULL,
    account_id uuid NOT NULL REFERENCES account,
    key text NOT NULL,
    wanted bigint,
    reason text NOT NULL,
    state text NOT NULL CONSTRAINT quota_request_state CHECK (state IN ('PENDING', 'APPROVED', 'DECLINED')),
    requested_by uuid,
    requested_at timestamptz NOT NULL,
    decided_by uuid,
    decided_at timestamptz,
    note text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX quota_request_pending ON quota_request (scope_kind, scope_id, key) WHERE state = 'PENDING';
CREATE INDEX quota_request_time ON quota_request (requested_at, id);

-- The newest recount: when it was made, and what it found.
CREATE TABLE quota_recount (
    one boolean PRIMARY KEY DEFAULT true CONSTRAINT quota_recount_one CHECK (one),
    verified_at timestamptz,
    sampled_at timestamptz
);
INSERT INTO quota_recount DEFAULT VALUES;
CREATE TABLE quota_difference (
    scope_kind text NOT NULL,
    scope_id uuid NOT NULL,
    key text NOT NULL,
    charged bigint NOT NULL,
    owed bigint NOT NULL,
    PRIMARY KEY (scope_kind, scope_id, key)
);

-- Who is forgotten is nobody's user any more.
ALTER TABLE users ADD COLUMN forgotten_at timestamptz;
UPDATE users SET forgotten_at = suspended_at WHERE name = 'forgotten-' || right(replace(id::text, '-', ''), 12);

ALTER TABLE upload ADD COLUMN client text, ADD COLUMN held_until timestamptz NOT NULL DEFAULT now();
ALTER TABLE upload ALTER COLUMN held_until DROP DEFAULT;
CREATE INDEX upload_held ON upload (held_until) WHERE held > 0;
CREATE INDEX repository_blob_linked ON repository_blob (linked_at);
CREATE TABLE blob_sweep (
    one boolean PRIMARY KEY DEFAULT true CONSTRAINT blob_sweep_one CHECK (one),
    linked_until timestamptz NOT NULL
);
INSERT INTO blob_sweep (linked_until) VALUES ('1970-01-01');
"""

CHARGING = """
DROP FUNCTION quota_charge(text[], uuid[], text[], bigint[], bigint[]);

-- How full a limit is, of the steps that are told: 80, 90 and 100 per cent.
CREATE FUNCTION quota_level(charged numeric, top numeric) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN top IS NULL OR charged <= 0 THEN 0 WHEN charged >= top THEN 100
        WHEN charged * 100 >= top * 90 THEN 90 WHEN charged * 100 >= top * 80 THEN 80 ELSE 0 END::smallint
$$;
-- What has been told and still holds: a step is told again only after the counter was 5 per cent below it.
CREATE FUNCTION quota_standing(told smallint, charged numeric, top numeric) RETURNS smallint
LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(quota_level(charged, top), CASE WHEN top IS NULL THEN 0
        WHEN told >= 100 AND charged * 100 >= top * 95 THEN 100 WHEN told >= 90 AND charged * 100 >= top * 85 THEN 90
        WHEN told >= 80 AND charged * 100 >= top * 75 THEN 80 ELSE 0 END)::smallint
$$;

-- The same of a soft limit.
CREATE FUNCTION quota_soft_standing(told boolean, charged numeric, soft numeric) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(charged >= soft OR told AND charged * 100 >= soft * 95, false)
$$;

-- Moves a counter that is locked.
CREATE FUNCTION quota_move(c quota_counter, amount bigint, top bigint) RETURNS quota_counter LANGUAGE plpgsql AS $$
BEGIN
    UPDATE quota_counter AS q SET charged = c.charged + amount, peak = greatest(c.peak, c.charged + amount),
        warned = quota_standing(c.warned, c.charged + amount, top),
        soft_warned = quota_soft_standing(c.soft_warned, c.charged + amount, c.soft)
    WHERE q.scope_kind = c.scope_kind AND q.scope_id = c.scope_id AND q.key = c.key
    RETURNING * INTO c;
    RETURN c;
END $$;

-- The counter, made if it is missing, locked, in the given period or a later one. Where there is no room for what is
-- needed, what has been given back is taken off: nobody is refused for room that nobody uses.
CREATE FUNCTION quota_locked(
    at_kind text, at_id uuid, at_key text, at_period text, needed bigint, fallback bigint, OUT c quota_counter
) LANGUAGE plpgsql AS $$
DECLARE
    top bigint;
    back bigint;
BEGIN
    SELECT * INTO c FROM quota_counter WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit, period)
            VALUES (at_kind, at_id, at_key, 0, false, at_period) ON CONFLICT DO NOTHING;
        SELECT * INTO c FROM quota_counter WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key
            FOR NO KEY UPDATE;
    END IF;
    IF c.period < at_period THEN
        UPDATE quota_counter SET period = at_period, charged = 0, peak = 0, warned = 0, soft_warned = false
            WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key RETURNING * INTO c;
    END IF;
    top := CASE WHEN c.explicit THEN c.hard ELSE fallback END;
    IF needed > 0 AND needed > top - c.charged THEN
        WITH gone AS (
            DELETE FROM quota_refund WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key
            RETURNING period, amount)
        SELECT coalesce(sum(amount), 0) INTO back FROM gone WHERE period = c.period;
        IF back > 0 THEN
            c := quota_move(c, -back, top);
        END IF;
    END IF;
END $$;

-- Charges all lines in the order given: a row for each step that a counter reaches, and a last one, `refused`, for the
-- first line that has no room; the transaction must then be left. Callers order lines leaf to root, so that the busiest
-- counter is locked last and no two ever wait for each other. Giving back is never refused.
CREATE FUNCTION quota_charge(
    kinds text[], ids uuid[], keys text[], periods text[], amounts bigint[], defaults bigint[]
) RETURNS TABLE (line int, refused boolean, step int, top bigint, charged bigint) LANGUAGE plpgsql AS $$
DECLARE
    before quota_counter;
    after quota_counter;
    crossed int;
BEGIN
    FOR i IN 1 .. coalesce(array_length(keys, 1), 0) LOOP
        CONTINUE WHEN amounts[i] = 0;
        -- Nearly always there is room and nothing to tell, and the counter is locked for no more than this.
        UPDATE quota_counter AS q
        SET charged = q.charged + amounts[i], peak = greatest(q.peak, q.charged + amounts[i])
        WHERE q.scope_kind = kinds[i] AND q.scope_id = ids[i] AND q.key = keys[i] AND q.period = periods[i]
            AND (amounts[i] <= 0
                OR amounts[i] <= CASE WHEN q.explicit THEN q.hard ELSE defaults[i] END - q.charged IS NOT FALSE)
            AND q.warned = quota_standing(
                q.warned, q.charged + amounts[i], CASE WHEN q.explicit THEN q.hard ELSE defaults[i] END)
            AND q.soft_warned = quota_soft_standing(q.soft_warned, q.charged + amounts[i], q.soft);
        CONTINUE WHEN FOUND;
        before := quota_locked(kinds[i], ids[i], keys[i], periods[i], amounts[i], defaults[i]);
        top := CASE WHEN before.explicit THEN before.hard ELSE defaults[i] END;
        IF amounts[i] > 0 AND amounts[i] > top - before.charged THEN
            RETURN QUERY SELECT i, true, 0, top, before.charged;
            RETURN;
        END IF;
        after := quota_move(before, amounts[i], top);
        IF after.warned > before.warned THEN
            FOREACH crossed IN ARRAY '{80, 90, 100}'::int[] LOOP
                IF crossed > before.warned AND crossed <= after.warned THEN
                    RETURN QUERY SELECT i, false, crossed, top, after.charged;
                END IF;
            END LOOP;
        END IF;
        IF after.soft_warned AND NOT before.soft_warned THEN
            RETURN QUERY SELECT i, false, 0, after.soft, after.charged;
        END IF;
    END LOOP;
END $$;

-- Charges as much as is wanted, but no more than a share of what is left or the floor, whichever is more, and never
-- less than is needed now; the same at each scope. A first row tells how much.
CREATE FUNCTION quota_reserve(
    kinds text[], ids uuid[], key text, period text, defaults bigint[],
    wanted bigint, needed bigint, share int, floor_ bigint
) RETURNS TABLE (line int, refused boolean, step int, top bigint, charged bigint) LANGUAGE plpgsql AS $$
DECLARE
    c quota_counter;
    room bigint;
    granted bigint := wanted;
BEGIN
    FOR i IN 1 .. array_length(kinds, 1) LOOP
        c := quota_locked(kinds[i], ids[i], quota_reserve.key, quota_reserve.period, needed, defaults[i]);
        room := CASE WHEN c.explicit THEN c.hard ELSE defaults[i] END - c.charged;
        IF room IS NOT NULL THEN
            granted := least(granted, greatest(room / share, least(floor_, room)));
        END IF;
    END LOOP;
    granted := greatest(granted, needed);
    RETURN QUERY SELECT 0, false, 0, granted, 0::bigint;
    RETURN QUERY SELECT * FROM quota_charge(kinds, ids,
        array_fill(quota_reserve.key, array[array_length(kinds, 1)]),
        array_fill(quota_reserve.period, array[array_length(kinds, 1)]),
        array_fill(granted, array[array_length(kinds, 1)]), defaults);
END $$;

-- Gives back bytes that were held, without touching a counter.
CREATE FUNCTION quota_give_back(repository uuid, organization uuid, account uuid, amount bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    IF amount > 0 THEN
        INSERT INTO quota_refund (scope_kind, scope_id, key, amount)
        VALUES ('repository', repository, 'STORAGE_BYTES', amount),
            ('organization', organization, 'STORAGE_BYTES', amount), ('account', account, 'STORAGE_BYTES', amount);
    END IF;
    RETURN amount;
END $$;

-- One more repository holds a digest, whose bytes were held: what was held beyond what is new is given back.
CREATE FUNCTION quota_settle(
    repository uuid, organization uuid, account uuid, held bigint, fresh boolean, of_digest text, of_size bigint,
    at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    novel boolean := false;
BEGIN
    IF fresh THEN
        INSERT INTO organization_blob AS b (organization_id, digest, size, links, first_at)
        VALUES (organization, of_digest, of_size, 1, at)
        ON CONFLICT (organization_id, digest) DO UPDATE SET links = b.links + 1 RETURNING b.links = 1 INTO novel;
    END IF;
    INSERT INTO quota_refund (scope_kind, scope_id, key, amount)
    SELECT kind, id, 'STORAGE_BYTES', held - CASE WHEN is_new THEN of_size ELSE 0 END
    FROM (VALUES ('repository', repository, fresh), ('organization', organization, novel), ('account', account, novel))
        AS scope (kind, id, is_new)
    WHERE held > CASE WHEN is_new THEN of_size ELSE 0 END;
END $$;

-- Takes off what has been given back at one scope, unless somebody is charging it: then they do, or the next round.
CREATE FUNCTION quota_apply(at_kind text, at_id uuid, at_key text, fallback bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    c quota_counter;
    back bigint;
BEGIN
    SELECT * INTO c FROM quota_counter WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key
        FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        DELETE FROM quota_refund WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key AND NOT EXISTS (
            SELECT FROM quota_counter WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key);
        RETURN;
    END IF;
    WITH gone AS (
        DELETE FROM quota_refund WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key
        RETURNING period, amount)
    SELECT coalesce(sum(amount), 0) INTO back FROM gone WHERE period = c.period;
    IF back > 0 THEN
        PERFORM quota_move(c, -back, CASE WHEN c.explicit THEN c.hard ELSE fallback END);
    END IF;
END $$;
"""

TRAFFIC = """
-- Counts pulls and bytes that left, and takes them from their leases. A lease that is gone had expired: its part was
-- given back, so what went out of it is charged again.
CREATE FUNCTION traffic_count(
    organizations uuid[], hours timestamptz[], repositories uuid[], tags text[], users uuid[], pulled bigint[],
    sent bigint[], leases uuid[], lease_organizations uuid[], lease_keys text[], lease_periods text[], taken bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    line record;
BEGIN
    INSERT INTO traffic_hour AS t (organization_id, hour, repository_id, tag, user_id, pulls, bytes)
    SELECT * FROM unnest(organizations, hours, repositories, tags, users, pulled, sent)
    ON CONFLICT (organization_id, hour, repository_id, tag, user_id)
    DO UPDATE SET pulls = t.pulls + excluded.pulls, bytes = t.bytes + excluded.bytes;
    FOR line IN SELECT * FROM unnest(leases, lease_organizations, lease_keys, lease_periods, taken)
        AS l (id, organization_id, key, period, taken)
    LOOP
        UPDATE quota_lease AS l SET used = l.used + line.taken WHERE l.id = line.id;
        IF NOT FOUND THEN
            UPDATE quota_counter AS q
            SET charged = q.charged + line.taken, peak = greatest(q.peak, q.charged + line.taken)
            WHERE q.scope_kind = 'organization' AND q.scope_id = line.organization_id AND q.key = line.key
                AND q.period = line.period;
        END IF;
    END LOOP;
END $$;

-- Ends a lease: what was not used of it is given back.
CREATE FUNCTION quota_lease_end(of_lease uuid) RETURNS void LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM quota_lease WHERE id = of_lease RETURNING organization_id, key, period, amount - used AS rest)
    INSERT INTO quota_refund (scope_kind, scope_id, key, period, amount)
    SELECT 'organization', organization_id, key, period, rest FROM gone WHERE rest > 0
$$;
"""

# What each counter should say, from what is there: content, what is on its way, and what has been given back but not
# been taken off yet.
OWED = """
CREATE FUNCTION quota_owed()
RETURNS TABLE (scope_kind text, scope_id uuid, key text, content bigint, held bigint, refunded bigint)
LANGUAGE sql STABLE AS $$
WITH linked AS (
    SELECT repository_id, digest, size FROM repository_blob JOIN blob USING (digest)
    UNION ALL SELECT repository_id, digest, size FROM manifest
), distinct_bytes AS (
    SELECT organization_id, sum(size) AS bytes FROM (
        SELECT DISTINCT r.organization_id, l.digest, l.size FROM linked l JOIN repository r ON r.id = l.repository_id
    ) AS every GROUP BY organization_id
), lines (scope_kind, scope_id, key, content, held, refunded) AS (
    SELECT 'account', account_id, 'ORGANIZATIONS', count(*), 0::numeric, 0::numeric
    FROM organization GROUP BY account_id
    UNION ALL SELECT 'account', account_id, 'USERS', count(*), 0, 0
    FROM users WHERE forgotten_at IS NULL GROUP BY account_id
    UNION ALL SELECT 'account', u.account_id, 'ACCESS_TOKENS', count(*), 0, 0
    FROM credential c JOIN users u ON u.id = c.user_id
    WHERE c.kind = 'ACCESS_KEY' AND c.revoked_at IS NULL GROUP BY u.account_id
    UNION ALL SELECT 'account', o.account_id, 'SHARES', count(*), 0, 0
    FROM share s JOIN repository r ON r.id = s.repository_id JOIN organization o ON o.id = r.organization_id
    GROUP BY o.account_id
    UNION ALL SELECT 'organization', organization_id, 'REPOSITORIES', count(*), 0, 0
    FROM repository GROUP BY organization_id
    UNION ALL SELECT 'account', o.account_id, 'REPOSITORIES', count(*), 0, 0
    FROM repository r JOIN organization o ON o.id = r.organization_id GROUP BY o.account_id
    UNION ALL SELECT 'repository', repository_id, 'TAGS', count(*), 0, 0 FROM tag GROUP BY repository_id
    UNION ALL SELECT 'organization', r.organization_id, 'TAGS', count(*), 0, 0
    FROM tag t JOIN repository r ON r.id = t.repository_id GROUP BY r.organization_id
    UNION ALL SELECT 'repository', repository_id, 'STORAGE_BYTES', sum(size), 0, 0 FROM linked GROUP BY repository_id
    UNION ALL SELECT 'organization', organization_id, 'STORAGE_BYTES', bytes, 0, 0 FROM distinct_bytes
    UNION ALL SELECT 'account', o.account_id, 'STORAGE_BYTES', sum(d.bytes), 0, 0
    FROM distinct_bytes d JOIN organization o ON o.id = d.organization_id GROUP BY o.account_id
    UNION ALL SELECT scope.kind, scope.id, 'STORAGE_BYTES', 0, sum(u.held), 0
    FROM upload u JOIN repository r ON r.id = u.repository_id JOIN organization o ON o.id = r.organization_id,
        LATERAL (VALUES ('repository', r.id), ('organization', o.id), ('account', o.account_id)) AS scope (kind, id)
    GROUP BY scope.kind, scope.id
    UNION ALL SELECT 'organization', q.scope_id, q.key,
        sum(CASE q.key WHEN 'PULLS' THEN t.pulls ELSE t.bytes END), 0, 0
    FROM quota_counter q JOIN traffic_hour t ON t.organization_id = q.scope_id
        AND t.hour >= to_timestamp(q.period, 'YYYY-MM')::timestamp AT TIME ZONE 'UTC'
        AND t.hour < (to_timestamp(q.period, 'YYYY-MM')::timestamp + interval '1 month') AT TIME ZONE 'UTC'
    WHERE q.period <> '' GROUP BY q.scope_id, q.key
    UNION ALL SELECT 'organization', l.organization_id, l.key, 0, sum(l.amount - l.used), 0
    FROM quota_lease l JOIN quota_counter q ON q.scope_kind = 'organization' AND q.scope_id = l.organization_id
        AND q.key = l.key AND q.period = l.period
    GROUP BY l.organization_id, l.key
    UNION ALL SELECT f.scope_kind, f.scope_id, f.key, 0, 0, sum(f.amount)
    FROM quota_refund f JOIN quota_counter q USING (scope_kind, scope_id, key, period)
    GROUP BY f.scope_kind, f.scope_id, f.key
)
SELECT l.scope_kind, l.scope_id, l.key, sum(l.content)::bigint, sum(l.held)::bigint, sum(l.refunded)::bigint
FROM lines l GROUP BY l.scope_kind, l.scope_id, l.key
$$;

INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit, peak)
SELECT scope_kind, scope_id, key, content + held + refunded, false, content + held + refunded FROM quota_owed()
ON CONFLICT (scope_kind, scope_id, key) DO UPDATE SET charged = excluded.charged, peak = excluded.peak;
"""

ROLE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidewaiter_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON quota_refund, quota_lease, traffic_hour, traffic_day, usage_hour,
            usage_day, quota_request, quota_recount, quota_difference, blob_sweep TO tidewaiter_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    for statements in (TABLES, CHARGING, TRAFFIC, OWED, ROLE):
        run(statements)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: an audit log does not go backwards.")
