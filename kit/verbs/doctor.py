"""`earkit doctor`: check this machine, with a cure for each fault."""

from __future__ import annotations

from argparse import Namespace

from kit import terminal
from kit.arguments import Parser

ABOUT = "check this machine, with a cure for each fault"
EXAMPLE = "earkit doctor"


def add(_parser: Parser) -> None:
    """Declare what it takes: nothing."""


def run(args: Namespace) -> int:
    """Check this machine; exit with 1 only if the main road cannot be walked."""
    from boards.errors import UserError
    from kit.doctor import examine

    report = examine()
    if args.json:
        terminal.json_object(report)
    else:
        rows = [(check["name"], check["state"], check["found"], check["cure"]) for check in report["checks"]]
        terminal.table(("what", "state", "found", "cure"), rows)
    missing = [check["name"] for check in report["checks"] if check["state"] == "missing"]
    if missing:
        raise UserError(f"the main road is blocked by {', '.join(missing)}: see the cures on stdout")
    return 0
