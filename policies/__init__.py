"""The law: what names may look like, who may do what, what a limit means.

Everything here is pure and synchronous, imports nothing of ours and does no I/O beyond reading its own rule files,
so it can be tested by properties and read like a statute.
"""
