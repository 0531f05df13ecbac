"""Files that once broke the compiler, and the seeds of its fuzzing: each compiles or is refused in a line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from corpus import compile_text

FILES = sorted((Path(__file__).parent / "corpus").glob("*.tflite"))


def test_the_corpus_is_there_and_small() -> None:
    assert len(FILES) >= 20
    assert sum(path.stat().st_size for path in FILES) < 300_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_compiles_or_is_refused(path: Path) -> None:
    began = time.monotonic()
    said = compile_text(path.read_bytes())
    assert said.startswith("/* model.c") or (said and "\n" not in said)
    assert time.monotonic() - began < 10
