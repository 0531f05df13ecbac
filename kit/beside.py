"""The device beside the full-size reference: one table of size, accuracy, latency, memory and energy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kit import figures
from kit.markup import Html, tag
from kit.records import Record, Run
from kit.sections import card

MEASURED, ESTIMATED = "measured", "estimated"
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Row:
    """A figure of both; None: not known. `ratio` is reference / device, for scores the difference."""

    figure: str
    device: float | int | None
    reference: float | int | None
    ratio: float | None
    device_origin: str | None
    reference_origin: str | None

    @property
    def words(self) -> str:
        """Return how a table says the ratio."""
        if self.ratio is None:
            return "–"
        return (
            f"{self.ratio:+.3f}"
            if self.figure in SCORES
            else f"× {self.ratio:,.0f}"
            if self.ratio >= 1000
            else f"× {self.ratio:.3g}"
        )


SCORES = {figures.ACCURACY.title.lower(), figures.CONCORDANCE.title.lower()}


def rows(profile: Record) -> list[Row]:
    """Return the table of a profile with a `reference`; none without one. What neither tells is left out."""
    if not profile.get("reference"):
        return []
    found = _rows(profile, profile["reference"])
    return [row for row in found if row.device is not None or row.reference is not None]


def _rows(profile: Record, full: Record) -> Iterator[Row]:
    counted, origins = profile.get("origin"), profile.get("origins") or {}
    weights, known = _weights(profile.get("flash_bytes")), full.get("model_bytes")
    assumed = FLOAT_BYTES * full["parameters"] if full.get("parameters") else None
    yield _divided(
        "bytes of the model", weights, known or assumed, MEASURED, MEASURED if known else ESTIMATED
    )
    measure = figures.measure_of(profile)
    scores = profile.get(measure.key) or {}
    mine, its = scores.get("device"), scores.get("full")
    apart = None if mine is None or its is None else its - mine
    yield Row(measure.title.lower(), mine, its, apart, _if(mine, counted), _if(its, MEASURED))
    engine = profile.get("tensorrt") or {}
    timed = engine.get("origin") or origins.get("milliseconds")
    time, its_time = engine.get("milliseconds") or profile.get("milliseconds"), full.get("milliseconds")
    yield _divided("milliseconds of an inference", time, its_time, timed, MEASURED)
    rate = engine.get("inferences_per_second") or (1000 / time if time else None)
    yield _divided("inferences a second", rate, full.get("windows_per_second"), timed, MEASURED)
    memory = full.get("memory") or {}
    most = memory.get("gpu_bytes") or memory.get("host_bytes")
    ram = (engine.get("stats") or {}).get("memory_bytes")  # of all that runs there, as the reference's
    if not engine and profile.get("ram_bytes"):
        ram = figures.total_of(profile["ram_bytes"])
    yield _divided("bytes of memory at most", ram, most, MEASURED, MEASURED)
    energy = (profile.get("energy") or {}).get("joules_per_inference")
    yield _divided("joules of an inference", energy, full.get("joules_per_inference"), MEASURED, MEASURED)


def _divided(
    figure: str,
    mine: float | int | None,
    its: float | int | None,
    origin: str | None,
    its_origin: str | None,
) -> Row:
    ratio = its / mine if mine and its is not None else None
    return Row(figure, mine, its, ratio, _if(mine, origin), _if(its, its_origin))


def _if(value: object, origin: str | None) -> str | None:
    return None if value is None else origin


def _weights(flash: object) -> int | None:
    if isinstance(flash, Mapping) and flash.get("weights"):
        return int(flash["weights"])
    return figures.total_of(flash) if flash else None


def plain(profile: Record) -> list[dict[str, Any]]:
    """Return the table as JSON has it."""
    return [asdict(row) for row in rows(profile)]


def table(profile: Record) -> list[tuple[object, ...]]:
    """Return the table as a terminal prints it, with HEAD over it."""
    return [
        (row.figure, row.device, row.reference, row.words, row.device_origin, row.reference_origin)
        for row in rows(profile)
    ]


HEAD = ("beside the reference", "device", "reference", "reference / device", "device's is", "reference's is")


def speed(record: Record) -> list[tuple[str, object]]:
    """Return figure and value of what quantize.speed.record says, for `earkit reference`."""
    latency, memory = record["latency"], record["memory"]
    names = ("min", "mean", "median", "p90", "p95", "p99", "max")
    found: list[tuple[str, object]] = [
        (f"milliseconds of one window, {name} of {latency['count']} calls", latency[name]) for name in names
    ]
    batch = record["batch"]
    found += [
        (f"milliseconds of a batch of {batch}, median", record["batch_milliseconds"]),
        ("windows a second", record["windows_per_second"]),
        ("bytes of memory of the process at most", memory["host_bytes"]),
        ("bytes of memory of the GPU at most", memory["gpu_bytes"]),
        ("parameters", record["parameters"]),
        ("bytes of the model", record["model_bytes"]),
    ]
    return [pair for pair in found if pair[1] is not None]


def drawn(run: Run) -> Html:
    """Return the table as a card of the report; nothing without a reference."""
    found = rows(run.profile) if run.profile else []
    if not found or run.profile is None:
        return Html()
    full = run.profile["reference"]
    body = [
        tag(
            "tr",
            tag("th", row.figure, scope="row"),
            _cell(row.device, row.device_origin),
            _cell(row.reference, row.reference_origin),
            tag("td", row.words, class_="n"),
        )
        for row in found
    ]
    heads = ("", str(run.profile.get("board", "Device")), "Reference", "Reference / device")
    head = tag("tr", *[tag("th", name, scope="col") for name in heads])
    known = [str(full[key]) for key in ("name", "device", "backend", "dtype") if full.get(key)]
    where = ", ".join(word for at, word in enumerate(known) if not any(word in one for one in known[:at]))
    batch = f"The reference's throughput is with {full['batch']} at once." if full.get("batch", 1) > 1 else ""
    drawn = tag("table", tag("caption", where), tag("thead", head), tag("tbody", *body), class_="plain")
    scroll = tag("div", drawn, class_="scroll", tabindex=0, role="region", aria_label="Beside the reference")
    return card("Beside the reference", scroll, note=batch)


def _cell(value: float | int | None, origin: str | None) -> Html:
    if value is None:
        return tag("td", "–", class_="n")
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"
    return tag("td", text, " ", tag("span", str(origin), class_=f"origin {origin}"), class_="n")
