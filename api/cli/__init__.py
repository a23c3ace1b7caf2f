"""The command `tidewaiter`: all its commands, and where each is.

Those of operators work on the same settings, and so on the same database, as the server; beside a running server they
meet its embedded one.
"""

from api.cli.loading import Group

USER = {
    "password": "users:password",
    "list": "users:list_users",
}
AUDIT = {
    "list": "audit:list_entries",
    "forget": "audit_forget:forget",
    "key": "audit_keys:key",
    "reopen": "audit_rekeying:reopen",
    "export": "audit_exporting:export",
    "verify": "audit_verifying:verify",
    "prove": "audit_proving:prove",
    "checkpoint": "audit_exporting:checkpoint",
    "archive": "audit_retention:archive",
    "drop": "audit_retention:drop",
    "hold": "audit_retention:hold",
    "segments": "audit_retention:segments",
    "witness": "audit_witness:witness",
}
QUOTA = {
    "check": "quota_checking:check",
    "report": "quota_reporting:report",
}
app = Group(
    "tidewaiter",
    "Tidewaiter, the container registry that keeps the books.",
    {
        "serve": "serving:serve",
        "migrate": "serving:migrate",
        "schema": "serving:schema",
        "doctor": "doctor:doctor",
        "user": Group("user", "Users, for the operator of this machine.", USER),
        "quota": Group("quota", "Quotas, for the operator of this machine.", QUOTA),
        "audit": Group("audit", "The audit log, for the operator of this machine.", AUDIT),
    },
)


def main() -> None:
    app()
