"""Files that once broke the compiler, and the seeds of its fuzzing: each compiles or is refused in a line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import tflite_mutations
import tflite_writer as tfl
from corpus import compile_text

FILES = sorted((Path(__file__).parent / "corpus").glob("*.tflite"))
LONGEST = 10  # seconds of a core


def tried(data: bytes) -> str:
    """Return what the compiler says to a file, one way or the other, in time."""
    began = time.process_time()
    said = compile_text(data)
    assert said.startswith("/* model.c") or (said and "\n" not in said)
    assert time.process_time() - began < LONGEST
    return said


def test_the_corpus_is_there_and_small() -> None:
    assert len(FILES) >= 20
    assert sum(path.stat().st_size for path in FILES) < 300_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_compiles_or_is_refused(path: Path) -> None:
    tried(path.read_bytes())


def test_files_with_changed_fields() -> None:
    seeds = [path.read_bytes() for path in FILES if path.stem.startswith("seed_")]
    told = []
    for seed, data in enumerate(seeds * 4):
        try:
            changed = tflite_mutations.mutated(data, seed)
        except (TypeError, IndexError):  # a number that its field cannot hold, a tensor without a buffer
            continue
        told.append(tried(changed).startswith("/* model.c"))
    assert 0.2 < sum(told) / len(told) < 0.9  # some get through


def side_by_side(count: int) -> bytes:
    """Return a model of that many outputs, all of the same input."""
    x = tfl.Value("x", (1, 8), "int8", 0.1)
    outputs = [tfl.Value(f"y{i}", (1, 8), "int8", 0.1) for i in range(count)]
    return tfl.model([x], [tfl.Op("ABS", [x], [y]) for y in outputs], [], outputs)


def test_many_values_at_once() -> None:
    assert tried(side_by_side(500)).startswith("/* model.c")
    assert "keep up to 2100 values alive at once" in tried(side_by_side(2100))
