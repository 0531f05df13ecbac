"""The report: every figure is on the page, nothing is fetched, nothing breaks out of its escaping."""

import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from boards.errors import UserError
from kit import figures, plots, report
from kit.markup import Html, join, tag

LABELS = ("dog", "rain", "siren")
COUNTS = [[18, 1, 0], [3, 15, 0], [0, 0, 12]]
EVALUATION = {
    "labels": LABELS,
    "stages": [
        {"name": "full", "accuracy": 0.957, "samples": 49, "parameters": 80_753_615, "macs": 21_000_000},
        {"name": "int8", "accuracy": 0.918, "samples": 49, "parameters": 43_000, "macs": None},
    ],
    "confusion": COUNTS,
    "data": {"name": "synthetic", "sha256": "ab" * 32, "held_out": None, "warnings": ()},
    "notes": ["QAT was not needed."],
}
PROFILE = {
    "origin": "emulated",
    "board": "virtual-m4",
    "instructions": 7_576_556,
    "cycles": None,
    "milliseconds": None,
    "per_op": [
        {"name": "conv", "op": "CONV_2D", "macs": 1_000, "instructions": 3_000},
        {"name": "dense", "op": "FULLY_CONNECTED", "macs": 100, "instructions": 1_000},
    ],
    "ram_bytes": {"arena": 3_072, "static": 512, "stack": 512, "total": 4_096},
    "flash_bytes": 66_816,
    "accuracy": {"device": 0.918, "host_int8": 0.918, "host_float": 0.939, "full": None},
    "mismatches": 0,
    "samples": 49,
}
STEPS = [
    [{"tensor": "in", "offset": 0, "bytes": 1_000}, {"tensor": "mid", "offset": 1_000, "bytes": 2_072}],
    [{"tensor": "mid", "offset": 1_000, "bytes": 2_072}, {"tensor": "out", "offset": 0, "bytes": 3}],
]
MEMORY = {"arena_bytes": 3_072, "lower_bound_bytes": 3_000, "steps": STEPS}


def heard(labels: tuple[str, ...] = LABELS, rate: int = 8_000) -> report.Listening:
    rng = np.random.default_rng(0)
    samples = np.rint(rng.normal(0, 500, 24_000)).astype(np.int16)
    events = (report.Detection(labels[0], 0.5, 1.2, 0.8), report.Detection(labels[1], 2.0, 2.4, 0.61))
    probabilities = rng.dirichlet(np.ones(len(labels)), 30).astype(np.float32)
    return report.Listening("clip.wav", rate, samples, labels, probabilities, events, events[:1], dropped=3)


def whole(name: str = "a run") -> report.Run:
    provenance = {"seed": 7, "versions": {"earkit": "0.1.0"}}
    confusion = {"labels": LABELS, "counts": COUNTS}
    return report.Run(name, EVALUATION, PROFILE, MEMORY, confusion, heard(), provenance)


class Page(HTMLParser):
    """Elements, text and mistakes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in {"meta", "img"}:
            self.open.append(name)

    def handle_startendtag(self, name, attributes) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name) -> None:
        assert self.open
        assert self.open.pop() == name

    def handle_data(self, text) -> None:
        self.text.append(text)

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == name]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).replace("\N{NO-BREAK SPACE}", " ").split())


def test_every_figure_is_there() -> None:
    words = Page(report.page([whole()])).words
    for figure in (
        *("91.8 %", "95.7 %", "93.9 %", "+2.1", "not run", "7.58 M", "7,576,556", "emulated", "virtual-m4"),
        *("80.8 M parameters", "4.0 KB", "65.2 KB", "75.0 %", "25.0 %", "3.00 a MAC", "CONV_2D 75 %"),
        *(
            "3,072 B at node 0",
            "(conv, CONV_2D)",
            "mid (2,072 B)",
            "2.4 % above",
            "rain heard as dog, 3 times",
        ),
        *("0.50 – 1.20 s", "61.0 %", "3 frames lost", "clip.wav: 3.0 s", "ab" * 32, "earkit 0.1.0"),
        *("QAT was not needed.", "49 held-out clips", "Every one of 49 outputs"),
    ):
        assert figure in words, figure


def test_mismatches_are_said() -> None:
    profile = {**PROFILE, "mismatches": 2}
    assert "2 of 49 outputs differ" in Page(report.page([report.Run("x", profile=profile)])).words


def test_cycles_take_the_place_of_instructions() -> None:
    per_op = [{**row, "cycles": 2 * row["instructions"]} for row in PROFILE["per_op"]]
    profile = {**PROFILE, "origin": "measured", "cycles": 16_000, "milliseconds": 12.34, "per_op": per_op}
    words = Page(report.page([report.Run("x", profile=profile)])).words
    assert "16,000, 12.3 ms" in words
    assert "8,000 cycles in the model" in words


def test_nothing_is_fetched_and_nothing_runs() -> None:
    text = report.page([whole(), whole()])
    page = Page(text)
    assert not page.named("script")
    assert not page.named("link")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.named("img"))
    assert all(anchor["href"].startswith("#run-") for anchor in page.named("a"))
    assert not re.search(r"url\(|@import|https?:", text)
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in page.named("meta"))


def test_accessible() -> None:
    page = Page(report.page([whole()]))
    assert all(image["alt"] for image in page.named("img"))
    assert all(svg.get("role") == "img" and svg["aria-label"] for svg in page.named("svg") if svg.get("role"))
    assert len(page.named("caption")) == len(page.named("table")) == 6
    assert {th.get("scope") for th in page.named("th")} == {"row", "col"}
    assert page.named("html")[0]["lang"] == "en"
    assert len(page.named("h1")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_missing_parts_say_how_to_get_them() -> None:
    words = Page(report.page([report.Run("bare")])).words
    for command in ("earkit compress", "earkit profile BUILD", "earkit compile", "earkit listen BUILD"):
        assert command in words


def test_several_runs_are_compared() -> None:
    page = Page(report.page([whole("first"), report.Run("second", profile=PROFILE), report.Run("third")]))
    assert "Side by side" in page.words
    assert [anchor["href"] for anchor in page.named("a")] == ["#run-0", "#run-1", "#run-2"]


NASTY = ["</table><b>", '"><script>x()</script>', "$body", "${x", "&lt;", "' onload='x"]


def hostile_run(nasty: str) -> report.Run:
    labels = (nasty, "rain", "siren")
    per_op = [{**PROFILE["per_op"][0], "name": nasty, "op": nasty}]
    memory = {**MEMORY, "steps": [[{"tensor": nasty, "offset": 0, "bytes": 9}]]}
    stage = {**EVALUATION["stages"][0], "name": nasty, "what": nasty}
    return report.Run(
        nasty,
        {**EVALUATION, "stages": [stage], "notes": [nasty]},
        {**PROFILE, "per_op": per_op, "board": nasty, "origin": nasty},
        memory,
        {"labels": labels, "counts": COUNTS},
        heard(labels),
        {nasty: nasty},
    )


@settings(max_examples=40, deadline=None)
@given(nasty=st.text(min_size=1, max_size=30) | st.sampled_from(NASTY))
def test_any_text_is_only_text(nasty: str) -> None:
    plain = Page(report.page([hostile_run("x")]))
    page = Page(report.page([hostile_run(nasty)]))
    count = [name for name, _ in page.elements if name != "wbr"]
    assert count == [name for name, _ in plain.elements if name != "wbr"]
    assert page.named("html")[0] == plain.named("html")[0]


def test_markup_escapes_all_but_markup() -> None:
    made = tag("p", "<b>", Html("<i/>"), title='"<>', data_x=None, class_="k")
    assert made == '<p title="&quot;&lt;&gt;" class="k">&lt;b&gt;<i/></p>'
    assert join("a\0b\ud800\u202e") == "a\ufffdb\ufffd\ufffd"


@pytest.mark.parametrize(
    "run",
    [
        report.Run("x", profile={**PROFILE, "per_op": [{"op": "ADD"}]}),
        report.Run("x", profile={**PROFILE, "accuracy": {"device": "high"}}),
        report.Run("x", memory={"steps": [[{"tensor": "a"}]], "arena_bytes": 4}),
        report.Run("x", confusion={"labels": ["a", "b"], "counts": [[1, 2]]}),
        report.Run("x", evaluation={"stages": [{"accuracy": 1}]}),
        report.Run("x", profile={**PROFILE, "ram_bytes": {"arena": 1}}),
    ],
)
def test_damaged_records_give_one_line(run: report.Run) -> None:
    for runs in ([run], [run, run]):
        with pytest.raises(UserError, match="profile it again") as error:
            report.page(runs)
        assert "\n" not in str(error.value)


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.html"
    report.write([whole()], out)
    before = out.read_bytes()
    with pytest.raises(UserError):
        report.write([report.Run("x", memory={"steps": [[{}]], "arena_bytes": 4})], out)
    assert out.read_bytes() == before
    report.write([whole("second")], out)
    assert b"second" in out.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("x")
    for wrong in (tmp_path / "file" / "x.html", tmp_path / "new"):
        with pytest.raises(UserError, match="cannot be written"):
            report.write([whole()], wrong)
    with pytest.raises(UserError, match="no runs"):
        report.write([], out)


# Pictures


@pytest.mark.parametrize(("right", "total"), [(0, 10), (10, 10), (45, 50), (210, 234)])
def test_interval_agrees_with_scipy(right: int, total: int) -> None:
    want = stats.binomtest(right, total).proportion_ci(method="wilson")
    assert plots.wilson(right / total, total) == pytest.approx((want.low, want.high), abs=1e-6)


def test_lifetimes_join_what_stays() -> None:
    lives = plots.lifetimes([*STEPS, STEPS[0]])
    assert [(life.tensor, life.first, life.last) for life in lives] == [
        ("in", 0, 0),
        ("mid", 0, 2),
        ("out", 1, 1),
        ("in", 2, 2),
    ]
    assert plots.peak(STEPS) == 0


def test_memory_map_is_to_scale() -> None:
    page = Page(plots.memory_map(STEPS, 4_144, ["a", "b"]))
    (mid,) = [svg for svg in page.named("svg")[1:] if svg["width"] == "100.000%"]
    top, height = 260 * 1_072 / 4_144, 260 * 2_072 / 4_144
    assert (mid["x"], mid["y"], mid["height"]) == ("0.000%", f"{top:.2f}", f"{height:.2f}")


def decode(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and palette of a PNG, every checksum checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + size
    width, height, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:], np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(256, 3)


def test_png_gives_its_pixels_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 13)).astype(np.uint8)
    got, palette = decode(plots.png(pixels))
    assert np.array_equal(got, pixels)
    assert (np.diff(palette.astype(int).sum(axis=1)) >= -2).all()  # brighter is louder


@pytest.mark.parametrize("hertz", [200, 1_000, 5_000])
def test_spectrogram_shows_a_tone_at_its_place(hertz: int) -> None:
    time = np.arange(32_000) / 16_000
    tone = np.where(time > 1.0, 8_000 * np.sin(2 * np.pi * hertz * time), 0).astype(np.int16)
    levels = plots._levels(tone, 16_000)
    assert levels.shape[0] == plots.ROWS
    late = levels[:, levels.shape[1] * 3 // 4]
    bounds = plots._hertz(np.linspace(plots._mel(plots.LOW_HZ), plots._mel(8_000), plots.ROWS + 1))
    row = int(late.argmax())
    assert bounds[row] - 32 <= hertz <= bounds[row + 1] + 32  # a bin is 31 Hz wide
    assert levels[:, : levels.shape[1] // 3].max() < 0.2


@pytest.mark.parametrize("size", [1, 100, 16_000 * 120])
def test_spectrogram_of_any_length(size: int) -> None:
    levels = plots._levels(np.full(size, 100, np.int16), 16_000)
    assert 1 <= levels.shape[1] <= plots.COLUMNS
    assert np.isfinite(levels).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.00 k"),
        (43_210, "43.2 k"),
        (999_960, "1.00 M"),
        (80_753_615, "80.8 M"),
    ],
)
def test_counts_in_three_digits(value: int, text: str) -> None:
    assert figures.short(value).replace("\N{NO-BREAK SPACE}", " ") == text


def test_many_classes_get_a_list_instead_of_a_matrix() -> None:
    labels = [f"class {i}" for i in range(60)]
    counts = np.eye(60, dtype=int)
    counts[3, 7] = 5
    run = report.Run("x", confusion={"labels": labels, "counts": counts.tolist()})
    words = Page(report.page([run])).words
    assert "60 classes are too many" in words
    assert "class 3 heard as class 7, 5 times" in words
