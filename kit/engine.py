"""An engine of TensorRT, and the reference's beside it: latency, stages, layers, state; as text and drawn."""

from __future__ import annotations

from collections.abc import Iterator

from kit import figures, plots
from kit.markup import Html, tag
from kit.records import Record, Run
from kit.sections import card, origin

KINDS = ("min", "mean", "median", "p90", "p95", "p99", "max")
STAGES = {
    "to_gpu": "copies to the GPU",
    "compute": "kernels",
    "from_gpu": "copies back",
    "enqueue": "enqueueing",
}
LAYERS_SHOWN = 10
HEAD = ("TensorRT", "model", "reference", "origin")


def engines(profile: Record) -> tuple[Record | None, Record | None]:
    """Return the engines of a profile: the model's, the reference's; None where there is none."""
    return profile.get("tensorrt"), (profile.get("reference") or {}).get("tensorrt")


def rows(profile: Record) -> list[tuple[str, object, object, str | None]]:
    """Return (figure, of the model, of the reference, origin); what no engine tells is left out."""
    mine, full = engines(profile)
    return (
        [row for row in _rows(mine, full or {}) if row[1] is not None or row[2] is not None] if mine else []
    )


def _rows(mine: Record, full: Record) -> Iterator[tuple[str, object, object, str | None]]:
    measured = mine["origin"]
    for kind in KINDS:
        of = f" of {mine['count']:g} runs" if mine.get("count") else ""
        a, b = ((one.get("latency") or {}).get(kind) for one in (mine, full))
        yield f"milliseconds, {kind}{of}", a, b, measured
    for key, name in STAGES.items():
        a, b = ((one.get(key) or {}).get("median") for one in (mine, full))
        yield f"milliseconds of {name}, median", a, b, measured
    for key, name in (
        ("inferences_per_second", "inferences a second"),
        ("joules_per_inference", "joules of an inference, of the whole module"),
        ("engine_bytes", "bytes of the engine"),
        ("build_seconds", "seconds to build it"),
    ):
        yield name, mine.get(key), full.get(key), "measured"
    for key, name in (
        ("decibel", "decibel to onnxruntime's outputs"),
        ("largest", "largest difference of those"),
    ):
        a, b = ((one.get("compared") or {}).get(key) for one in (mine, full))
        yield name, a, b, "measured"
    for key, name in (
        ("memory_bytes", "bytes of memory in use there"),
        ("gpu_load_percent", "GPU load in percent"),
    ):
        a, b = ((one.get("stats") or {}).get(key) for one in (mine, full))
        yield name, a, b, "measured"


def words(profile: Record) -> str:
    """Return the line on what ran where: version, module, power mode, clocks, heat."""
    engine = profile["tensorrt"]
    state, heat = engine["state"], engine["stats"]["celsius"]
    parts = [f"TensorRT {engine['version']}" + (" (a stand-in)" if engine["stand_in"] else "")]
    parts += [str(state[key]) for key in ("module", "power_mode") if state[key]]
    parts += [f"L4T {state['l4t']}"] if state["l4t"] else []
    parts += [
        f"{name} {value} MHz" for name, value in state["megahertz"].items() if name in ("GPU", "EMC", "cpu0")
    ]
    if heat:
        hottest = max(heat, key=heat.__getitem__)
        parts.append(f"{hottest} at most {heat[hottest]:g} °C")
    return ", ".join(parts)


def drawn(run: Run) -> Html:
    """Return the engines as a card of the report; nothing without one."""
    if not run.profile or not (found := rows(run.profile)):
        return Html()
    mine, full = engines(run.profile)
    assert mine is not None
    body = [
        tag("tr", tag("th", name, scope="row"), *[tag("td", _value(value), class_="n") for value in values])
        for name, *values, _ in found
    ]
    heads = ("", "Model", "Reference")
    head = tag("tr", *[tag("th", name, scope="col") for name in heads])
    table = tag(
        "table",
        tag("caption", "One program timed both on that machine" if full else "On that machine"),
        tag("thead", head),
        tag("tbody", *body),
        class_="plain",
    )
    scroll = tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="TensorRT")
    said = origin(mine) if mine["origin"] else Html()
    lead = tag("p", said, f" {words(run.profile)}", class_="lead")
    warned = " ".join(str(warning).lstrip("* ") for warning in mine["warnings"])
    return card("TensorRT", lead, scroll, _layers(mine), note=warned)


def _layers(engine: Record) -> Html:
    if not engine["layers"]:
        return Html()
    slowest = engine["layers"][:LAYERS_SHOWN]
    chart = [
        plots.Bar(
            str(row["name"])[:80],
            "",
            float(row["milliseconds"]),
            f"{row['milliseconds']:.4g} ms · {row['percent']:.1f}\N{NO-BREAK SPACE}%",
        )
        for row in slowest
    ]
    most = max(bar.value for bar in chart) or 1.0
    return plots.bars(chart, most, "Milliseconds by layer of the engine", ("Layer", "Milliseconds"))


def _value(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return figures.percent(None) if value is None else f"{value:,.4g}"
