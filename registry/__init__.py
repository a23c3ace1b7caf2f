"""The whole registry as it would stand without GraphQL.

Rooms are nouns (`accounts`, `organizations`, `repositories`, `access`, `quotas`, `audit`), modules say what goes on
in them, and their verbs are plain coroutines whose first argument is a `Work`: who acts, in which transaction, at
what time. `protocol` is the door that docker and its kin knock at; `system` puts everything together.
"""
