"""Keeps what native libraries say on stderr off it; no setting of theirs does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_silence() -> Iterator[None]:
    """Point file descriptor 2 nowhere while the block runs; Python's errors come after it, as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def import_keras() -> None:
    """Import Keras and its backend, whose start-up lines would drown ours."""
    with native_silence():
        import keras

        keras.backend.backend()
