"""The GraphQL schema: one module a noun. What the law says is never decided here."""
