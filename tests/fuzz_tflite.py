"""Fuzzes the compiler with damaged .tflite files: python tests/fuzz_tflite.py CORPUS… [libFuzzer options].

Needs atheris, which the project does not install. Any file may be refused (UserError); nothing else may
happen: no other exception or warning, no more than 10 seconds, no more than 2 GB. Most changes are of fields,
so that they get past the reader; the others are of bytes. Findings go to tests/corpus, where test_corpus.py
keeps them.
"""

from __future__ import annotations

import random
import sys
import warnings

import atheris
import tflite_mutations

with atheris.instrument_imports(include=["firmware", "boards"]):
    from corpus import compile_text

LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=65536")
FIELDS = 0.85  # of all changes


def changed(data: bytes, longest: int, seed: int) -> bytes:
    """Return the file with a few fields changed, or bytes."""
    if random.Random(seed).random() < FIELDS:
        try:
            made = tflite_mutations.mutated(data, seed)
        except Exception:  # the file has no such fields
            made = b""
        if 0 < len(made) <= longest:
            return made
    mutated: bytes = atheris.Mutate(data, longest)
    return mutated


if __name__ == "__main__":
    warnings.simplefilter("error", RuntimeWarning)
    atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[1:]], compile_text, custom_mutator=changed)
    atheris.Fuzz()
