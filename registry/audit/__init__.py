"""The log that nobody can rewrite. Table: audit_log, which the database itself keeps append-only.

A change writes its entry in its own transaction; pulls and refusals go through a group commit whose answer waits.
Numbering, sealing and proofs build on the order of `id`, which grows with each committed entry of one primary.
"""
