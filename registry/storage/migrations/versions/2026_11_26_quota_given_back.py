"""Owners are told by what is used, not by what is only held or has been given back already; giving back is never
refused, not even where a counter says less than is there; and leases end at once when a limit is set.
"""

from registry.storage.migrations.scripts import run

revision = "2026_11_26_quota_given_back"
down_revision = "2026_11_26_quota_engine"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE quota_recount ADD COLUMN rolled_at timestamptz;
ALTER TABLE upload ADD COLUMN unannounced boolean NOT NULL DEFAULT false, ADD COLUMN waits_until timestamptz;
-- What did not leave may be taken again before it has been counted as taken back.
ALTER TABLE quota_lease DROP CONSTRAINT quota_lease_used,
    ADD CONSTRAINT quota_lease_used CHECK (used >= 0);
"""

CHARGING = """
DROP FUNCTION quota_charge(text[], uuid[], text[], text[], bigint[], bigint[]);
DROP FUNCTION quota_reserve(text[], uuid[], text, text, bigint[], bigint, bigint, int, bigint);
DROP FUNCTION quota_apply(text, uuid, text, bigint);
DROP FUNCTION quota_move(quota_counter, bigint, bigint);
DROP FUNCTION quota_settle(uuid, uuid, uuid, bigint, boolean, text, bigint, timestamptz);

-- Moves a counter that is locked. One that said too little stays at nothing until it is counted anew.
CREATE FUNCTION quota_move(c quota_counter, amount bigint) RETURNS quota_counter LANGUAGE plpgsql AS $$
BEGIN
    UPDATE quota_counter AS q
    SET charged = greatest(0, c.charged + amount), peak = greatest(c.peak, c.charged + amount)
    WHERE q.scope_kind = c.scope_kind AND q.scope_id = c.scope_id AND q.key = c.key
    RETURNING * INTO c;
    RETURN c;
END $$;

-- Takes off a counter that is locked what has been given back.
CREATE FUNCTION quota_take_off(c quota_counter) RETURNS quota_counter LANGUAGE plpgsql AS $$
DECLARE
    back bigint;
BEGIN
    WITH gone AS (
        DELETE FROM quota_refund WHERE scope_kind = c.scope_kind AND scope_id = c.scope_id AND key = c.key
        RETURNING period, amount)
    SELECT coalesce(sum(amount), 0) INTO back FROM gone WHERE period = c.period;
    RETURN CASE WHEN back > 0 THEN quota_move(c, -back) ELSE c END;
END $$;

-- The same for the janitor, unless somebody is charging it: then they do, or the next round.
CREATE FUNCTION quota_apply(at_kind text, at_id uuid, at_key text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c quota_counter;
BEGIN
    SELECT * INTO c FROM quota_counter WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key
        FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        PERFORM quota_take_off(c);
    ELSE
        DELETE FROM quota_refund WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key AND NOT EXISTS (
            SELECT FROM quota_counter WHERE scope_kind = at_kind AND scope_id = at_id AND key = at_key);
    END IF;
END $$;

-- The counter, made if it is missing, locked, in the given period or a later one. Where there is no room for what is
-- needed, what has been given back is taken off: nobody is refused for room that nobody uses.
CREATE OR REPLACE FUNCTION quota_locked(
    at_kind text, at_id uuid, at_key text, at_period text, needed bigint, fallback bigint, OUT c quota_counter
) LANGUAGE plpgsql AS $$
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
    IF needed > 0 AND needed > (CASE WHEN c.explicit THEN c.hard ELSE fallback END) - c.charged THEN
        c := quota_take_off(c);
    END IF;
END $$;

-- Judges a counter that is locked by what is used: what uploads only hold may never stay, and what has been given back
-- is gone. A row for each step that is reached; 0 is the soft limit.
CREATE FUNCTION quota_judge(c quota_counter, top bigint) RETURNS TABLE (step int, reached bigint, used bigint)
LANGUAGE plpgsql AS $$
DECLARE
    before quota_counter := c;
BEGIN
    used := c.charged
        - (SELECT coalesce(sum(f.amount), 0) FROM quota_refund f
            WHERE f.scope_kind = c.scope_kind AND f.scope_id = c.scope_id AND f.key = c.key AND f.period = c.period);
    IF c.key = 'STORAGE_BYTES' THEN
        used := used - (SELECT coalesce(sum(u.held), 0) FROM upload u
            JOIN repository r ON r.id = u.repository_id JOIN organization o ON o.id = r.organization_id
            WHERE u.held > 0 AND c.scope_id = CASE c.scope_kind
                WHEN 'account' THEN o.account_id WHEN 'organization' THEN o.id ELSE r.id END);
    END IF;
    UPDATE quota_counter AS q SET warned = quota_standing(c.warned, used, top),
        soft_warned = quota_soft_standing(c.soft_warned, used, c.soft)
    WHERE q.scope_kind = c.scope_kind AND q.scope_id = c.scope_id AND q.key = c.key RETURNING * INTO c;
    reached := top;
    FOREACH step IN ARRAY '{80, 90, 100}'::int[] LOOP
        IF step > before.warned AND step <= c.warned THEN
            RETURN NEXT;
        END IF;
    END LOOP;
    IF c.soft_warned AND NOT before.soft_warned THEN
        step := 0;
        reached := c.soft;
        RETURN NEXT;
    END IF;
END $$;

-- Charges all lines in the order given: a row for each step that is reached, and a last one, `refused`, for the first
-- line that has no room; the transaction must then be left. Callers order lines leaf to root, so that the busiest
-- counter is locked last and no two ever wait for each other. Giving back is never refused. Of storage that is only
-- held nobody is told: what comes with it and stays tells.
CREATE FUNCTION quota_charge(
    kinds text[], ids uuid[], keys text[], periods text[], amounts bigint[], defaults bigint[],
    holding boolean DEFAULT false
) RETURNS TABLE (line int, refused boolean, step int, top bigint, charged bigint) LANGUAGE plpgsql AS $$
DECLARE
    c quota_counter;
    judging boolean;
BEGIN
    FOR i IN 1 .. coalesce(array_length(keys, 1), 0) LOOP
        CONTINUE WHEN amounts[i] = 0;
        judging := NOT (holding AND keys[i] = 'STORAGE_BYTES');
        -- Nearly always there is room and nothing to tell, and the counter is locked for no more than this.
        UPDATE quota_counter AS q
        SET charged = greatest(0, q.charged + amounts[i]), peak = greatest(q.peak, q.charged + amounts[i])
        WHERE q.scope_kind = kinds[i] AND q.scope_id = ids[i] AND q.key = keys[i] AND q.period = periods[i]
            AND (amounts[i] <= 0
                OR amounts[i] <= CASE WHEN q.explicit THEN q.hard ELSE defaults[i] END - q.charged IS NOT FALSE)
            AND (NOT judging OR (amounts[i] > 0 OR q.warned = 0 AND NOT q.soft_warned)
                AND q.warned = quota_standing(
                    q.warned, q.charged + amounts[i], CASE WHEN q.explicit THEN q.hard ELSE defaults[i] END)
                AND q.soft_warned = quota_soft_standing(q.soft_warned, q.charged + amounts[i], q.soft));
        CONTINUE WHEN FOUND;
        c := quota_locked(kinds[i], ids[i], keys[i], periods[i], amounts[i], defaults[i]);
        top := CASE WHEN c.explicit THEN c.hard ELSE defaults[i] END;
        IF amounts[i] > 0 AND amounts[i] > top - c.charged THEN
            RETURN QUERY SELECT i, true, 0, top, c.charged;
            RETURN;
        END IF;
        c := quota_move(c, amounts[i]);
        IF judging THEN
            RETURN QUERY SELECT i, false, j.step, j.reached, j.used FROM quota_judge(c, top) AS j;
        END IF;
    END LOOP;
END $$;

-- One more repository holds a digest, whose bytes were held: what was held beyond what is new is given back. No counter
-- moves, nor is one locked, unless it may be that a step is reached. Rows are as those of quota_charge.
CREATE FUNCTION quota_settle(
    repository uuid, organization uuid, account uuid, held bigint, fresh boolean, of_digest text, of_size bigint,
    at timestamptz, defaults bigint[]
) RETURNS TABLE (line int, refused boolean, step int, top bigint, charged bigint) LANGUAGE plpgsql AS $$
DECLARE
    novel boolean := false;
    kinds text[] := '{repository, organization, account}';
    ids uuid[] := array[repository, organization, account];
    c quota_counter;
BEGIN
    IF fresh THEN
        INSERT INTO organization_blob AS b (organization_id, digest, size, links, first_at)
        VALUES (organization, of_digest, of_size, 1, at)
        ON CONFLICT (organization_id, digest) DO UPDATE SET links = b.links + 1 RETURNING b.links = 1 INTO novel;
    END IF;
    INSERT INTO quota_refund (scope_kind, scope_id, key, amount)
    SELECT kind, id, 'STORAGE_BYTES', held - CASE WHEN is_new THEN of_size ELSE 0 END
    FROM unnest(kinds, ids, array[fresh, novel, novel]) AS scope (kind, id, is_new)
    WHERE held > CASE WHEN is_new THEN of_size ELSE 0 END;
    FOR i IN 1 .. 3 LOOP
        SELECT * INTO c FROM quota_counter AS q
        WHERE q.scope_kind = kinds[i] AND q.scope_id = ids[i] AND q.key = 'STORAGE_BYTES';
        top := CASE WHEN c.explicit THEN c.hard ELSE defaults[i] END;
        CONTINUE WHEN quota_standing(c.warned, c.charged, top) <= c.warned
            AND quota_soft_standing(c.soft_warned, c.charged, c.soft) <= c.soft_warned;
        SELECT * INTO c FROM quota_counter AS q
        WHERE q.scope_kind = kinds[i] AND q.scope_id = ids[i] AND q.key = 'STORAGE_BYTES' FOR NO KEY UPDATE;
        top := CASE WHEN c.explicit THEN c.hard ELSE defaults[i] END;
        RETURN QUERY SELECT i, false, j.step, j.reached, j.used FROM quota_judge(c, top) AS j;
    END LOOP;
END $$;

-- As quota_charge, where there is room and nothing to tell; where not, it fails.
CREATE FUNCTION quota_charge_quietly(
    kinds text[], ids uuid[], keys text[], periods text[], amounts bigint[], defaults bigint[], holding boolean
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM quota_charge(kinds, ids, keys, periods, amounts, defaults, holding);
    IF FOUND THEN
        RAISE EXCEPTION 'there is something to tell' USING ERRCODE = 'TW001';
    END IF;
END $$;

-- Charges as much as is wanted, but no more than a share of what is left, and never less than is needed now; the same
-- at each scope. A first row tells how much, as its charge.
CREATE FUNCTION quota_reserve(
    kinds text[], ids uuid[], key text, period text, defaults bigint[], wanted bigint, needed bigint, share int
) RETURNS TABLE (line int, refused boolean, step int, top bigint, charged bigint) LANGUAGE plpgsql AS $$
DECLARE
    c quota_counter;
    granted bigint := wanted;
    scopes int[] := array[array_length(kinds, 1)];
BEGIN
    FOR i IN 1 .. scopes[1] LOOP
        c := quota_locked(kinds[i], ids[i], quota_reserve.key, quota_reserve.period, needed, defaults[i]);
        granted := least(granted, (CASE WHEN c.explicit THEN c.hard ELSE defaults[i] END - c.charged) / share);
    END LOOP;
    granted := greatest(granted, needed);
    RETURN QUERY SELECT 0, false, 0, NULL::bigint, granted;
    RETURN QUERY SELECT * FROM quota_charge(kinds, ids, array_fill(quota_reserve.key, scopes),
        array_fill(quota_reserve.period, scopes), array_fill(granted, scopes), defaults,
        quota_reserve.key = 'STORAGE_BYTES');
END $$;
"""

TRAFFIC = """
DROP FUNCTION quota_lease_end(uuid);
DROP FUNCTION traffic_count(uuid[], timestamptz[], uuid[], text[], uuid[], bigint[], bigint[], uuid[], uuid[], text[],
    text[], bigint[]);

-- Counts pulls and bytes that left, and takes them from their leases; returns those that are gone. A lease that is gone
-- was ended: its part was given back, so what went out of it is charged again.
CREATE FUNCTION traffic_count(
    organizations uuid[], hours timestamptz[], repositories uuid[], tags text[], users uuid[], pulled bigint[],
    sent bigint[], leases uuid[], lease_organizations uuid[], lease_keys text[], lease_periods text[], taken bigint[]
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    line record;
    gone uuid[];
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
            SET charged = greatest(0, q.charged + line.taken), peak = greatest(q.peak, q.charged + line.taken)
            WHERE q.scope_kind = 'organization' AND q.scope_id = line.organization_id AND q.key = line.key
                AND q.period = line.period;
            gone := gone || line.id;
        END IF;
    END LOOP;
    RETURN gone;
END $$;
"""


def upgrade() -> None:
    for statements in (TABLES, CHARGING, TRAFFIC):
        run(statements)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: an audit log does not go backwards.")
