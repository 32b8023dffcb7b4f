"""Where clients come in: the PostgreSQL wire and HTTP."""
