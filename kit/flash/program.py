"""Flashing by somebody else's program: found in PATH, run to its end, its last words told when it fails."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from boards.errors import UserError

PATIENCE = 300.0  # seconds
WORDS = 200  # characters of what it said


def find(names: Sequence[str], install: str) -> str:
    """Return the first of the programs `names` that is installed; `install` is the cure when none is."""
    for path in map(shutil.which, names):
        if path is not None:
            return path
    raise UserError(f"{names[0]} is not installed: {install}")


@contextmanager
def holding(data: bytes) -> Iterator[Path]:
    """Yield a file that holds `data`, alone in a folder that vanishes at the end."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "earkit.bin"
        file.write_bytes(data)
        yield file


def run(program: str, arguments: Sequence[str], done: str | None = None) -> None:
    """Run `program`; saying `done` counts as success whatever it ends with.

    Raises:
        UserError: it fails, or takes more than PATIENCE.
    """
    name = Path(program).name
    try:
        ran = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{name} did not end within {PATIENCE:.0f} s: unplug the board, plug it in, and try again"
        ) from None
    except OSError as error:
        raise UserError(f"{program} cannot be run ({error.strerror}): install it again") from None
    said = " ".join(ran.stdout.decode("utf-8", "replace").split())
    if ran.returncode and (done is None or done not in said):
        raise UserError(
            f"{name} failed with {ran.returncode} ({said[-WORDS:] or 'it said nothing'}): "
            "is the board in its bootloader, and may you use its port? "
            "Press its reset twice or hold its boot button, then try again"
        )
