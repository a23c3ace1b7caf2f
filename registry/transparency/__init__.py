"""What makes a log provable, in the formats of C2SP: the tree of RFC 6962, its tiles, signed notes, checkpoints and
proofs.

Pure: nothing here reads, writes or knows what an entry says. Whoever holds a verifier key needs this room and no
more.
"""
