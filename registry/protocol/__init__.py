"""The door that docker and its kin knock at: OCI distribution 1.1 under /v2, and the docker token protocol at /token.

It reads requests and writes answers, no more: every rule stands in the rooms. `app` has all routes on one screen,
`errors` the one table from refusals to what clients understand.
"""
