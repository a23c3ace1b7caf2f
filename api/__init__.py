"""What people touch: GraphQL, the console, the command line, and the ASGI whole that serves them."""
