"""The log that nobody can rewrite, and that proves it.

An event is written to the inbox, by the transaction of its change or by a group commit whose answer waits
(`recording`); one server at a time numbers what is there and hashes it into a tree (`sequencing`); the tree is signed
again and again, and each signature kept outside the database too (`publishing`, `anchors`). Anybody with the public
key can check all of it without us (`verifying`). The tree, its proofs and signatures are pure and live in
`registry.transparency`; the formats are those of C2SP, so tools that are not ours can check them.
"""
