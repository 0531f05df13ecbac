"""`export --as eim`: the program of a bundle as one file that Edge Impulse's Linux clients run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from boards import atomic, computers
from boards.errors import UserError
from kit.outputs import room_for


def export(source: Path, out: Path, *, board: str | None, hop: str | None = None) -> dict[str, Any]:
    """Compile a bundle, or an int8 .tflite, for a computer into the executable file `out`.

    Returns board, machine, build id, bytes, and how many values a window and a slice of it have.

    Raises:
        UserError: no computer is named, the model has other ends than one int8 input and one int8 output,
            or `out` cannot be written.
    """
    from firmware.compiler import linux, program
    from firmware.compiler.ends import single_int8
    from kit import pipeline

    runs = [name for name in computers.names() if computers.load(name).kind in program.KINDS]
    if board not in runs:
        raise UserError(f"--as eim is for a computer: --board {' or '.join(runs)}")
    room_for(out)
    with tempfile.TemporaryDirectory(prefix="earkit-") as folder:
        made = pipeline.compile(source, board, Path(folder) / "build", hop=hop)
        assert isinstance(made, program.Program)
        if not single_int8(made.graph):
            raise UserError(f"{source}: an .eim has one int8 input and one int8 output; use `earkit run`")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with atomic.replacing(out) as whole:
                shutil.copyfile(made.program, whole)
                whole.chmod(0o755)
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}: choose another -o") from None
        window, piece, _ = linux.window(made.graph, made.frontend, made.stream)
    return {
        "board": made.board.name,
        "machine": made.board.machine,
        "build_id": made.build_id,
        "bytes": out.stat().st_size,
        "window": window,
        "slice": piece,
    }
