"""Runs a script of several statements inside a migration's transaction; the driver prepares only single ones."""

from alembic import op


def run(script: str) -> None:
    # The advisory lock taken before has already opened the transaction on this connection.
    adapted = op.get_bind().connection.dbapi_connection
    assert adapted is not None  # noqa: S101
    adapted.run_async(lambda connection: connection.execute(script))
