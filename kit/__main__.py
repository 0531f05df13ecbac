"""The entry point of `earkit` and of `python -m kit`."""

from __future__ import annotations

import sys

from kit.cli import main

if __name__ == "__main__":
    sys.exit(main())
