"""Residual vector quantisation: codebooks fitted by k-means, each to what the ones before it left over.

Zeghidour et al. 2021, arXiv 2107.03312. Its codes are targets for training without labels, where no outside
codec gives any.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int32]
BLOCK = 4096  # frames whose distances are held at once


def fit(frames: Floats, codebooks: int, entries: int, rng: np.random.Generator, rounds: int = 10) -> Floats:
    """Return books (codebooks, entries, width) for frames (N, width), by Lloyd's k-means stage after stage.

    An entry that no frame chose moves to the frame that is worst served.

    Raises:
        ValueError: there are fewer frames than entries.
    """
    if len(frames) < entries:
        raise ValueError(f"{entries} entries need as many frames; there are {len(frames)}")
    left = frames.astype(np.float32)
    books = []
    for _ in range(codebooks):
        book = _means(left, entries, rng, rounds)
        books.append(book)
        left = left - book[nearest(left, book)[0]]
    return np.stack(books)


def _means(points: Floats, entries: int, rng: np.random.Generator, rounds: int) -> Floats:
    book = points[rng.choice(len(points), entries, replace=False)]
    for _ in range(rounds):
        chosen, apart = nearest(points, book)
        counts = np.bincount(chosen, minlength=entries)
        sums = np.zeros_like(book)
        np.add.at(sums, chosen, points)
        used = counts > 0
        book = book.copy()
        book[used] = sums[used] / counts[used, None]
        worst = np.argsort(apart)[::-1][: np.count_nonzero(~used)]
        book[~used] = points[worst]
    return book


def nearest(points: Floats, book: Floats) -> tuple[Codes, Floats]:
    """Return the nearest entry of each point (N,) and the squared distance to it (N,)."""
    codes, distances = [], []
    norms = np.sum(book * book, axis=1)
    for start in range(0, len(points), BLOCK):
        part = points[start : start + BLOCK]
        squared = norms - 2 * part @ book.T
        found = np.argmin(squared, axis=1)
        codes.append(found)
        lowest = squared[np.arange(len(part)), found] + np.sum(part * part, axis=1)
        distances.append(np.maximum(lowest, 0))
    return np.concatenate(codes).astype(np.int32), np.concatenate(distances).astype(np.float32)


def encode(frames: Floats, books: Floats) -> Codes:
    """Return the codes (N, codebooks) of frames (N, width): each book's entry nearest to the residual."""
    left, codes = frames.astype(np.float32), []
    for book in books:
        codes.append(nearest(left, book)[0])
        left = left - book[codes[-1]]
    return np.stack(codes, axis=1)


def decode(codes: Codes, books: Floats) -> Floats:
    """Return the frames (N, width) that `codes` stand for: the sum of their entries."""
    return sum((book[codes[:, i]] for i, book in enumerate(books)), np.zeros((), np.float32))
