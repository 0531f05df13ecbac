"""Fuzzes the compiler with damaged .tflite files: python tests/fuzz_tflite.py CORPUS… [libFuzzer options].

Needs atheris, which the project does not install. Any file may be refused (UserError); nothing else may
happen: no other exception, no more than 10 seconds, no more than 2 GB. Findings go to tests/corpus, where
test_corpus.py keeps them.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["firmware", "boards"]):
    from corpus import compile_text

LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=65536")

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[1:]], compile_text)
    atheris.Fuzz()
