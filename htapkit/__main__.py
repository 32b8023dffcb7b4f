"""`python -m htapkit` is `htapkit`."""

from __future__ import annotations

from htapkit.cli import main

if __name__ == "__main__":
    main()
