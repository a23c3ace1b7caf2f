"""Who may come in: accounts (tenants), their users, and the credentials they sign in with.

Tables: account, users, credential. User names are unique in the installation; a user belongs to one account for good.
"""
