"""The floor everything stands on: PostgreSQL (`database`, `embedded`, `migrations`) and the bytes (`blobs`)."""
