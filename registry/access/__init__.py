"""The facts handed to the law: who holds which level where, what is shared with whom, and what a request found.

Tables: organization_permission, repository_permission, share. `finding` reads all facts of a request in one
statement; the verdict itself is `policies.access`, asked through `Work.require`.
"""
