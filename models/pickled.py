"""What a pickle would import, read from its opcodes: nothing in it is loaded or run."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

HARMLESS = re.compile(
    r"torch\.(\w+|(_utils|_tensor|storage|nn\.parameter)\.\w+)"
    r"|numpy\.(dtype|ndarray|_?core\.multiarray\.(scalar|_reconstruct)|dtypes\.\w+)"
    r"|collections\.OrderedDict|argparse\.Namespace|_codecs\.encode|(builtins|__builtin__)\.set"
)
MOST = 8  # pickles one after the other, as of PyTorch's oldest format


def code(path: Path) -> str | None:
    """Return the first thing that a checkpoint of PyTorch would import and that is no part of a tensor.

    None: there is none, or the file is too damaged to tell.
    """
    try:
        with path.open("rb") as file:
            return next((name for name in _imports(_pickle(file)) if not HARMLESS.fullmatch(name)), None)
    except Exception:  # zipfile, its decoders and pickletools have their own errors for damage
        return None


def _pickle(file: BinaryIO) -> BinaryIO:
    """Return the pickle: that in a zip archive of torch.save, or the file."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return file
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        return io.BytesIO(archive.read(name))


def _imports(file: BinaryIO) -> Iterator[str]:
    """Yield `module.name` of everything imported; protocol 4 takes them from the two strings before."""
    for _ in range(MOST):
        strings = ["", ""]
        memo: dict[int, str] = {}
        for opcode, argument, _place in pickletools.genops(file):
            if opcode.name == "STACK_GLOBAL":
                yield ".".join(strings[-2:])
            elif opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
            elif "UNICODE" in opcode.name:
                strings.append(str(argument))
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = strings[-1]
            elif opcode.name.endswith("PUT"):
                memo[int(str(argument))] = strings[-1]
            elif opcode.name.endswith("GET"):
                strings.append(memo.get(int(str(argument)), ""))
