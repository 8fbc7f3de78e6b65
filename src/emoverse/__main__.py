"""`python -m emoverse` is the `emoverse` command."""

from __future__ import annotations

from emoverse.cli import main

if __name__ == "__main__":
    main()
