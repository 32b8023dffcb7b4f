"""History in Iceberg: see README.md."""
