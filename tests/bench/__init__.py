"""The published figures, one module each. `make bench` runs them all; never a timed test."""
