"""The entry point of `earkit` and of `python -m kit`."""

from __future__ import annotations

import signal
import sys

from kit import cli


def main() -> int:
    """Run the command line of this process; SIGTERM unwinds it, so that nothing half-written stays."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
