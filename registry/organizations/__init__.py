"""Organizations: the names under which an account keeps its repositories. Table: organization."""
