"""Pictures of the report: bars, memory map, confusion matrix, spectrogram; inline, responsive, no scripts.

Every picture gives its x in percent of its width, so that text keeps its size on a phone.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from kit.markup import Html, breakable, tag

Array = npt.NDArray[Any]
HUES = 8  # fills .h0 … .h7 of the style sheet
COLUMNS, ROWS = 1_000, 96  # of a spectrogram's picture
RANGE_DB = 65.0
LOW_HZ = 60.0
MANY = 40  # classes above which a confusion matrix is unreadable
INK = ((0.0, 10, 12, 34), (0.3, 66, 26, 106), (0.55, 168, 46, 95), (0.78, 240, 118, 52), (1.0, 252, 240, 176))


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart; `low` and `high` are the ends of its 95 % interval."""

    label: str
    note: str
    value: float
    text: str
    hue: str = "plain"  # plain, strong
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Life:
    """A tensor's stay in the arena: nodes first…last, bytes offset…offset + size."""

    tensor: str
    offset: int
    size: int
    first: int
    last: int


def bars(rows: Sequence[Bar], most: float, caption: str, heads: tuple[str, str]) -> Html:
    """Return a table of bars, `most` being a full row; roles are said, for on a phone rows are stacked."""
    body = [
        tag(
            "tr",
            tag(
                "th",
                breakable(row.label),
                tag("small", row.note) if row.note else "",
                scope="row",
                role="rowheader",
            ),
            tag("td", _bar(row, most), class_="bar", role="cell"),
            tag("td", row.text, class_="n", role="cell"),
            role="row",
        )
        for row in rows
    ]
    digits = max(len(row.text) for row in rows)
    names = [
        tag("th", name, scope="col", role="columnheader", colspan=span)
        for name, span in zip(heads, (1, 2), strict=True)
    ]
    head = tag("thead", tag("tr", *names, role="row"), role="rowgroup")
    return tag(
        "table",
        tag("caption", caption),
        head,
        tag("tbody", *body, role="rowgroup"),
        class_="bars",
        style=f"--n:{digits}ch",
        role="table",
    )


def _bar(row: Bar, most: float) -> Html:
    share = _percent(row.value, most)
    whisker = ""
    if row.low is not None and row.high is not None:
        left, right = _percent(row.low, most), _percent(row.high, most)
        whisker = tag("i", style=f"left:{left};width:calc({right} - {left})")
    return tag(
        "span", tag("b", class_=row.hue, style=f"width:{share}"), whisker, class_="track", aria_hidden="true"
    )


def _percent(value: float, most: float) -> str:
    return f"{100.0 * min(max(value / most, 0.0), 1.0) if most > 0 else 0.0:.2f}%"


def wilson(right: float, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share `right` of `total` trials (Wilson 1927)."""
    if total <= 0:
        return 0.0, 1.0
    z = 1.959964
    centre = (right + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(right * (1 - right) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]], caption: str) -> Html:
    """Return the matrix as a table: rows are what it was, columns what it was taken for."""
    if len(labels) > MANY:
        return tag("p", f"{len(labels)} classes are too many for a matrix; the commonest mix-ups are below.")
    head = [tag("th", tag("span", label), scope="col", title=label) for label in labels]
    body = []
    for row, label in zip(counts, labels, strict=True):
        total = sum(row)
        cells = [_cell(label, other, count, total) for other, count in zip(labels, row, strict=True)]
        body.append(tag("tr", tag("th", label, scope="row"), *cells))
    table = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", tag("td", tag("small", "was ↓ heard →")), *head)),
        tag("tbody", *body),
        class_="confusion",
    )
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _cell(was: str, heard: str, count: int, total: int) -> Html:
    share = count / total if total else 0.0
    kind = "right" if was == heard else "wrong"
    style = f"--share:{100 * share:.0f}%" if count else None
    dark = " deep" if share > 0.55 else ""
    title = f"{was} heard as {heard}: {count} of {total}"
    return tag(
        "td", str(count) if count else "", class_=kind + dark if count else None, style=style, title=title
    )


def lifetimes(steps: Sequence[Sequence[Mapping[str, Any]]]) -> list[Life]:
    """Return each tensor's unbroken stays from what is in the arena at every node."""
    open_: dict[tuple[str, int, int], int] = {}
    done: list[Life] = []
    for at, step in enumerate([*steps, []]):
        here = {(str(item["tensor"]), int(item["offset"]), int(item["bytes"])) for item in step}
        for key in [key for key in open_ if key not in here]:
            done.append(Life(*key, open_.pop(key), at - 1))
        for key in sorted(here - set(open_)):
            open_[key] = at
    return sorted(done, key=lambda life: (life.first, life.offset))


def peak(steps: Sequence[Sequence[Mapping[str, Any]]]) -> int:
    """Return the node at which the most bytes are alive."""
    return max(range(len(steps)), key=lambda at: sum(int(item["bytes"]) for item in steps[at]))


def memory_map(steps: Sequence[Sequence[Mapping[str, Any]]], arena: int, nodes: Sequence[str]) -> Html:
    """Return the arena over time: x is the node, y the offset; the fullest node is marked."""
    height, count, top = 260, len(steps), peak(steps)
    lives = lifetimes(steps)
    hue = {name: i % HUES for i, name in enumerate(dict.fromkeys(life.tensor for life in lives))}
    shapes = [_block(life, hue[life.tensor], arena, count, height, nodes) for life in lives]
    left, width = f"{100 * top / count:.3f}%", f"{100 / count:.3f}%"
    shapes.append(tag("rect", x=left, y=0, width=width, height=height, class_="peak"))
    words = f"Memory map: {arena:,} B arena over {count} nodes, fullest at node {top} ({nodes[top]})"
    picture = tag("svg", *shapes, role="img", aria_label=words, width="100%", height=height)
    marks = [(height * (1 - tick / arena), _bytes(tick)) for tick in _ticks(arena)]
    every = max(1, math.ceil(count / 12))
    along = [(at, str(at)) for at in range(0, count, every) if abs(at - top) > every / 2]
    along.append((top, "peak"))
    return _framed(picture, marks, [(100 * (at + 0.5) / count, text) for at, text in along], "node", height)


def _block(life: Life, hue: int, arena: int, count: int, height: int, nodes: Sequence[str]) -> Html:
    high, wide = height * life.size / arena, (life.last - life.first + 1) / count > 0.2
    short = life.tensor.rstrip("/").rsplit("/", 1)[-1]
    title = f"{life.tensor}: {life.size:,} B at {life.offset:,}, {_nodes(life, nodes)}"
    return tag(
        "svg",
        tag("rect", tag("title", title), width="100%", height="100%", rx=2, class_=f"h{hue}"),
        tag("text", short, x=5, y=14, class_=None if wide else "narrow") if high > 18 else "",
        x=f"{100 * life.first / count:.3f}%",
        y=f"{height * (1 - (life.offset + life.size) / arena):.2f}",
        width=f"{100 * (life.last - life.first + 1) / count:.3f}%",
        height=f"{max(high, 1.5):.2f}",
    )


def _nodes(life: Life, nodes: Sequence[str]) -> str:
    first, last = nodes[life.first], nodes[life.last]
    return (
        f"node {life.first} ({first})"
        if life.first == life.last
        else f"nodes {life.first}–{life.last} ({first} … {last})"
    )


def spectrogram(samples: Array, rate: int, height: int = 190) -> Html:
    """Return the picture of a recording, mono int16 (n,): time to the right, mel frequency upwards."""
    seconds = samples.size / rate
    levels = _levels(samples, rate)
    words = f"Spectrogram of {seconds:.1f} s, {LOW_HZ:.0f} to {rate // 2} Hz"
    picture = _picture(levels, height, words)
    low, high = _mel(LOW_HZ), _mel(rate / 2)
    hz = [f for f in (125, 500, 1_000, 2_000, 4_000, 8_000, 16_000) if f <= 0.9 * rate / 2]
    marks = [
        (height * (1 - (_mel(f) - low) / (high - low)), f"{f / 1_000:g} k" if f >= 1_000 else str(f))
        for f in hz
    ]
    return _framed(picture, marks, time_marks(seconds), "s", height)


def activity(probabilities: Array, labels: Sequence[str], words: str) -> Html:
    """Return a heat strip a class: what the board believed, probabilities (hops, classes)."""
    height = 15 * len(labels)
    picture = _picture(np.clip(probabilities.T[::-1], 0, 1), height, words, smooth=False)
    marks = [(15 * i + 7.5, label) for i, label in enumerate(labels)]
    return _framed(picture, marks, [], "", height, wide=True)


def time_marks(seconds: float) -> list[tuple[float, str]]:
    """Return at most eight round times as (percent, text)."""
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600) if seconds / s <= 8), 1_800)
    return (
        [(100 * i * step / seconds, f"{i * step:g}") for i in range(int(seconds / step) + 1)]
        if seconds
        else []
    )


def _framed(
    picture: Html,
    marks: Sequence[tuple[float, str]],
    along: Sequence[tuple[float, str]],
    unit: str,
    height: int,
    wide: bool = False,
) -> Html:
    """Return a picture with axes; `marks` are (pixels from the top, text), `along` (percent, text)."""
    left = [tag("span", text, style=f"top:{y:.1f}px") for y, text in marks]
    below = [
        tag("span", text, style=f"left:{x:.2f}%", class_="peak" if text == "peak" else None)
        for x, text in along
    ]
    axis = tag("div", *below, tag("em", unit), class_="along", aria_hidden="true") if along else ""
    side = tag("div", *left, class_="side", style=f"height:{height}px", aria_hidden="true")
    return tag(
        "div", side, tag("div", picture, axis, class_="plot"), class_="framed wide" if wide else "framed"
    )


def _picture(levels: Array, height: int, words: str, smooth: bool = True) -> Html:
    """Return levels 0…1 (rows from low to high, columns) as an image that fills its place."""
    data = base64.b64encode(png(np.rint(levels[::-1] * 255).astype(np.uint8))).decode()
    style = f"height:{height}px" + ("" if smooth else ";image-rendering:pixelated")
    return tag("img", src=f"data:image/png;base64,{data}", alt=words, style=style)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return an 8-bit palette PNG of pixels (height, width), 0 dark … 255 bright."""
    height, width = pixels.shape
    stops = np.array(INK)
    place = np.linspace(0, 1, 256)
    palette = np.stack([np.interp(place, stops[:, 0], stops[:, c]) for c in (1, 2, 3)], axis=1).astype(
        np.uint8
    )
    lines = np.pad(pixels, ((0, 0), (1, 0)))  # filter byte 0 before each line

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    body = (
        chunk(b"IHDR", head)
        + chunk(b"PLTE", palette.tobytes())
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
    )
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def _levels(samples: Array, rate: int) -> Array:
    """Return a spectrogram of levels 0…1 with ROWS mel-spaced rows and at most COLUMNS columns."""
    size = 1 << max(6, round(math.log2(rate * 0.032)))
    padded = np.pad(samples.astype(np.float32) / 32_768, (0, size))
    columns = max(1, min(COLUMNS, samples.size // (size // 8)))
    edges = np.linspace(0, samples.size, columns + 1)
    looks = max(
        1, min(16, math.ceil(samples.size / columns / size))
    )  # frames in one column; the loudest counts
    window = np.hanning(size).astype(np.float32)
    power = np.zeros((columns, size // 2 + 1), np.float32)
    for look in range(looks):
        starts = (edges[:-1] + (edges[1] - edges[0]) * look / looks).astype(np.int64)
        for part in np.array_split(np.arange(columns), max(1, columns // 250)):
            frames = padded[starts[part, None] + np.arange(size)] * window
            power[part] = np.maximum(power[part], np.abs(np.fft.rfft(frames, axis=1)) ** 2)
    bounds = _hertz(np.linspace(_mel(LOW_HZ), _mel(rate / 2), ROWS + 1)) * size / rate
    rows = [power[:, int(a) : max(int(a) + 1, int(b))].max(axis=1) for a, b in pairwise(bounds)]
    db = 10 * np.log10(np.stack(rows) + 1e-9)
    return np.asarray(np.clip((db - np.quantile(db, 0.998)) / RANGE_DB + 1, 0, 1))


def _mel(hertz: float) -> float:
    return 2_595 * math.log10(1 + hertz / 700)


def _hertz(mel: Array) -> Array:
    return np.asarray(700 * (10 ** (mel / 2_595) - 1))


def _ticks(most: int) -> list[int]:
    """Return up to six round sizes from 0 to `most` bytes."""
    step = 256
    while most / step > 5:
        step *= 2
    return list(range(0, most + 1, step))


def _bytes(count: int) -> str:
    return f"{count / 1_024:g} KB" if count >= 1_024 else f"{count} B"
