"""The command `tidewaiter`: one module a topic. Commands of operators work on the same settings, and so on the same
database, as the server; beside a running server they meet its embedded one."""

import typer

from api.cli import (  # noqa: F401
    audit,
    audit_forget,
    audit_keys,
    audit_proofs,
    audit_retention,
    audit_witness,
    doctor,
    serving,
    users,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tidewaiter, the container registry that keeps the books.",
)
app.command("serve")(serving.serve)
app.command("migrate")(serving.migrate)
app.command("schema")(serving.schema)
app.command("doctor")(doctor.doctor)
app.add_typer(users.app, name="user")
app.add_typer(audit.app, name="audit")


def main() -> None:
    app()
