"""Scopes in SQL, by their kind: what lies in one, how it is called, and what is on its way to it. `$1` is its id.

A text for each kind, so that each has a plan of its own: asked by a CASE, all uploads of the installation are read.
"""

COLUMNS = {"account": "o.account_id", "organization": "o.id", "repository": "r.id"}
"""Of repositories `r` of organizations `o`."""

WITHIN = {kind: f"{column} = $1" for kind, column in COLUMNS.items()}
UPLOADS = "upload u JOIN repository r ON r.id = u.repository_id JOIN organization o ON o.id = r.organization_id"
NAMES = {
    "account": "SELECT name FROM account WHERE id = $1",
    "organization": "SELECT name FROM organization WHERE id = $1",
    "repository": "SELECT o.name || '/' || r.name FROM repository r JOIN organization o ON o.id = r.organization_id"
    " WHERE r.id = $1",
}


def held(kind: str, key: str, period: str) -> str:
    """What is charged there and on its way: of storage what uploads hold, of traffic what is left in leases. Key and
    period are parameters or columns."""
    return f"""
        CASE WHEN {key} = 'STORAGE_BYTES'
            THEN (SELECT coalesce(sum(u.held), 0) FROM {UPLOADS} WHERE u.held > 0 AND {WITHIN[kind]})
            ELSE (SELECT coalesce(sum(l.amount - l.used), 0) FROM quota_lease l
                WHERE l.organization_id = $1 AND l.key = {key} AND l.period = {period}) END::bigint
    """
