"""Moving closed time ranges from the hot store to the lake: see README.md."""
