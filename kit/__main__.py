"""The entry point of `earkit` and of `python -m kit`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process; SIGTERM unwinds it, so that nothing half-written stays."""
    try:
        import signal

        from kit import cli
    except KeyboardInterrupt:  # not yet where a verb's Ctrl-C is caught
        return 130
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
