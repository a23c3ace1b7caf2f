"""The database's shape, one revision a change, named by date. `registry.migrating` runs them."""
