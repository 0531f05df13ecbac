"""`earkit models`: list the families of models."""

from __future__ import annotations

from argparse import Namespace

from kit import terminal
from kit.arguments import Parser

ABOUT = "list the families of models"
EXAMPLE = "earkit models"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument("family", nargs="?", help="show one family only")


def run(args: Namespace) -> int:
    """List the families, or show one."""
    from kit import fits
    from models import registry

    cards = [registry.card(name) for name in ([args.family] if args.family else registry.names())]
    known = fits.all_boards()
    if args.json:
        terminal.json_object({"models": [fits.record(card, known) for card in cards]})
        return 0
    rows = [fits.row(card, size, known) for card in cards for size in card.sizes]
    terminal.table(fits.COLUMNS, rows)
    if args.family:
        print(f"{cards[0].title}. {cards[0].paper}. Licence: {cards[0].licence}")
        if cards[0].weights:
            print(f"Official weights, not shipped: {cards[0].weights.where}, {cards[0].weights.terms}")
    return 0
