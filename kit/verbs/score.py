"""`earkit score`: count false accepts per hour and misses on a long recording."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "count false accepts per hour and misses on a long recording"
EXAMPLE = "earkit score build/panns --recording day.flac --events day.csv"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    arguments.build(parser)
    parser.add_argument(
        "--recording",
        type=arguments.path,
        required=True,
        metavar="FILE",
        help="sound file, hours if you like",
    )
    parser.add_argument(
        "--events",
        type=arguments.path,
        required=True,
        metavar="FILE",
        help="what is in it: csv of start,end,label in seconds, or labels of Audacity",
    )
    parser.add_argument(
        "--threshold", type=arguments.number(0, 1), help="probability that makes an event, 0 to 1"
    )
    parser.add_argument(
        "--plot", type=arguments.path, metavar="FILE", help="draw misses over false accepts as SVG"
    )
    parser.add_argument(
        "--on-board", action="store_true", help="stream it to the board instead of the same model here"
    )


def draw(record: dict[str, Any], file: Path) -> None:
    """Write the picture of a score; UserError when it cannot be drawn or written."""
    from boards import atomic
    from boards.errors import UserError
    from kit import det

    try:
        atomic.write(file, det.picture(record).encode())
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror}): choose another place") from None


def run(args: Namespace) -> int:
    """Count false accepts and misses."""
    from kit import score

    with shown() as progress:
        record = score.recording(
            args.build,
            Path(args.recording),
            Path(args.events),
            threshold=args.threshold,
            on_board=args.on_board,
            board=args.board,
            port=args.port,
            progress=progress,
        )
    if args.json:
        terminal.json_object(record)
    else:
        tell(record)
    if args.plot:
        draw(record, Path(args.plot))
    return 0


def tell(record: dict[str, Any]) -> None:
    """Print the sweep, the classes and the figures at the threshold."""
    columns = ("threshold", "hits", "misses", "miss_rate", "false_accepts", "false_accepts_per_hour")
    terminal.table(
        [name.replace("_", " ") for name in columns],
        [tuple(row[name] for name in columns) for row in record["sweep"]],
    )
    rows = [(label, *found.values()) for label, found in record["per_class"].items()]
    terminal.table(("class", "events", "hits", "false accepts"), rows)
    print(
        f"{record['seconds'] / 3600:.2f} h on {record['on']} at threshold {record['threshold']:g}: "
        f"{record['false_accepts_per_hour']:.2f} false accepts per hour, "
        f"{record['misses']} of {record['events']} events missed"
    )
