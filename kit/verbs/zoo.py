"""`earkit zoo`: list the models that come with the kit, or build every micro and hear it on a board."""

from __future__ import annotations

from argparse import Namespace

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "list the models that come with the kit, or build every micro and hear it on a board"
EXAMPLE = "earkit zoo build panns --data esc10=clips/esc10 --seeds 3"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.mixed = True
    parser.add_argument("action", nargs="?", default="list", choices=("list", "build"))
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="default: all that have a micro")
    parser.add_argument(
        "--data",
        type=arguments.named,
        action="append",
        metavar="NAME=DIR",
        help="as of compress, any number of times (default: synthetic and synthetic-affect)",
    )
    parser.add_argument("--teacher", metavar="SIZE", help="as of compress, of all (default: the recipes')")
    parser.add_argument("--seeds", type=arguments.whole(1), default=3, help="of each student (default: 3)")
    parser.add_argument(
        "--folds", type=arguments.whole(2), default=5, help="of each data set, at most (default: 5)"
    )
    parser.add_argument(
        "--held-out",
        type=arguments.named,
        action="append",
        metavar="NAME=FOLD",
        help="the only fold of a data set",
    )
    parser.add_argument("--epochs", type=arguments.whole(1), help="most epochs of each training stage")
    parser.add_argument("--board", default="virtual-m7", help="default: virtual-m7")
    parser.add_argument(
        "--jobs", type=arguments.whole(1), metavar="N", help="processes (default: one a core)"
    )
    parser.add_argument(
        "--table", type=arguments.path, metavar="FILE.md", help="write the table there too, json beside"
    )
    parser.add_argument(
        "--keep", action="store_true", help="put small bundles on the kit's shelf, models/zoo"
    )
    parser.add_argument("-o", "--output", type=arguments.path, default="runs/zoo", help="default: runs/zoo")


def run(args: Namespace) -> int:
    """List the models that come with the kit, or build every micro."""
    from boards.errors import UserError
    from kit import shelf, zoo_view

    if args.action == "list":
        kept = shelf.listed()
        if args.json:
            terminal.json_object({"models": kept})
        elif kept:
            terminal.table(("model", "task", "score", "bytes", "data"), [tuple(one.values()) for one in kept])
        else:
            print("no trained models yet: earkit zoo build --keep makes some")
        return 0
    with shown() as progress:
        whole = zoo_view.build(args, progress)
    if args.json:
        terminal.json_object(whole)
    else:
        zoo_view.show(whole)
    if whole["failed"]:
        names = ", ".join(f"{one['family']} on {one['data']}" for one in whole["failed"])
        raise UserError(f"{names}: see above; the same call goes on with what is left")
    return 0
