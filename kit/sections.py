"""The report's sections: each takes a run and returns a card, or says what is missing and how to get it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from kit import figures, plots
from kit.markup import Html, join, tag
from kit.records import Detection, Listening, Record, Run

NODES_SHOWN = 10
MIXUPS_SHOWN = 6
STRIPS_SHOWN = 16
STAGES = {
    "full": "Teacher",
    "scratch": "Without a teacher",
    "distilled": "Distilled",
    "pruned": "Pruned",
    "float": "Float",
    "ptq": "int8, calibrated",
    "int8": "int8",
    "device": "On the device",
}


def card(title: str, *parts: str, note: str = "", class_: str = "") -> Html:
    """Return a section with a heading and, at its foot, a note."""
    text = tag("p", note, class_="note") if note else Html()
    return tag("section", tag("h3", title), *parts, text, class_=f"card {class_}".strip())


def _missing(title: str, what: str, command: str) -> Html:
    return card(title, tag("p", f"{what}: ", tag("code", command), class_="missing"))


def origin(profile: Record) -> Html:
    """Return the tag that says how the counts came about."""
    name = str(profile.get("origin", "unknown"))
    known = name if name in {"measured", "emulated", "estimated"} else "unknown"
    return tag("span", name, class_=f"origin {known}")


def tiles(run: Run) -> Html:
    """Return the figures that matter first."""
    profile = run.profile
    if profile is None:
        return tag("div", class_="tiles")
    measure, samples = figures.measure_of(profile), int(profile.get("samples") or 0)
    scores, tiles = profile.get(measure.key) or {}, []
    if scores.get("device") is not None:
        low, high = plots.wilson(max(0.0, scores["device"]), samples)
        interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
        small = interval if measure.clips else "mean over the targets; 1 is perfect"
        tiles.append((f"{measure.title} on the device", measure.text(scores["device"]), small))
    if profile.get("mismatches") is not None:
        tiles.append(
            ("Device differs from host", f"{profile['mismatches']:,}", f"of {samples:,} inputs, bit for bit")
        )
    name, count = figures.counted(profile)
    if count is not None:
        time = profile.get("milliseconds")
        tiles.append(
            (
                f"{name} an inference",
                figures.short(count),
                f"{count:,}" + (f", {time:.3g} ms" if time is not None else ""),
            )
        )
    if (times := profile.get("latency")) and count is None:
        tiles.append((f"Time of {times['of']}", f"{times['median']:.3g} ms", f"median of {times['count']:,}"))
    if told := profile.get("per_second"):
        tiles.append(_per_second(told))
    for key, label in (("ram_bytes", "RAM"), ("flash_bytes", "Flash")):
        total = figures.total_of(profile.get(key))
        if total is not None:
            tiles.append((label, figures.kilobytes(total), figures.breakdown(profile[key])))
    boxes = [
        tag("div", tag("dt", label), tag("dd", value), tag("dd", small, class_="small"))
        for label, value, small in tiles
    ]
    board = f"on {profile['board']}" if profile.get("board") else ""
    return join(tag("p", origin(profile), f" {board}", class_="lead"), tag("dl", *boxes, class_="tiles"))


def _per_second(told: Record) -> tuple[str, str, str]:
    """Return the tile of what a second of sound costs: a stream, beside its window model, or windows."""
    what = "a second of sound" if told["of"] == "second" else "a row of input"
    title = f"{told['unit'].capitalize()} {what}"
    stream, window = told["stream"], told["window"]
    if stream is None:
        return title, figures.short(window), f"{window:,} with windows that overlap by half"
    beside = "" if window is None else f", {window:,} with a window each hop"
    return title, figures.short(stream), f"{stream:,}{beside}"


def stages(run: Run) -> Html:
    """Return accuracy by stage, the device's last."""
    measure = figures.measure_of(run.evaluation, run.profile)
    rows = [
        (STAGES.get(s["name"], s["name"]), _stage_note(s), float(s[measure.key]), int(s["samples"]))
        for s in (run.evaluation or {}).get("stages", ())
    ]
    profile = run.profile or {}
    device = (profile.get(measure.key) or {}).get("device")
    if device is not None:
        rows.append(
            (STAGES["device"], str(profile.get("board", "")), float(device), int(profile.get("samples") or 0))
        )
    if not rows:
        return _missing("Accuracy by stage", "No evaluation yet", "earkit compress")
    chart = [
        plots.Bar(
            label,
            note,
            max(0.0, value),
            measure.text(value),
            "strong" if label == STAGES["device"] else "plain",
            *(plots.wilson(value, count) if measure.clips else ()),
        )
        for label, note, value, count in rows
    ]
    clips = max(count for *_, count in rows)
    table = plots.bars(chart, 1.0, measure.caption, ("Stage", measure.title))
    whiskers = " Whiskers: 95 % interval (Wilson)." if measure.clips else ""
    return card(f"{measure.title} by stage", table, note=f"{clips:,} held-out clips.{whiskers}")


def _stage_note(stage: Record) -> str:
    counts = [
        f"{figures.short(stage[key])}\N{NO-BREAK SPACE}{key}" for key in ("parameters",) if stage.get(key)
    ]
    if stage.get("macs"):
        counts.append(f"{figures.short(stage['macs'])}\N{NO-BREAK SPACE}MACs")
    taught = [str(stage.get("what", ""))] if stage.get("name") == "full" else []
    return ", ".join([*taught, *counts]) or str(stage.get("what", ""))


def against(run: Run) -> Html:
    """Return the table device, host int8, host float, full."""
    if run.profile is None:
        return _missing("Device and host", "Not profiled yet", "earkit profile BUILD")
    measure = figures.measure_of(run.profile)
    scores = run.profile.get(measure.key) or {}
    base = scores.get("device")
    names = {"device": "Device", "host_int8": "Host, int8", "host_float": "Host, float", "full": "Reference"}
    rows = []
    for key, name in names.items():
        value = scores.get(key)
        gap = "" if value is None or base is None or key == "device" else measure.gap(value - base)
        cells = (
            tag("td", "not run" if value is None else measure.text(value), class_="n"),
            tag("td", gap, class_="n"),
        )
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    head = tag("tr", *[tag("th", name, scope="col") for name in ("", measure.title, measure.gap_title)])
    caption = tag("caption", f"The same {int(run.profile.get('samples') or 0):,} clips through each")
    table = tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="plain")
    mismatches = run.profile.get("mismatches")
    note = "" if mismatches is None else _verdict(int(mismatches), int(run.profile.get("samples") or 0))
    return card("Device and host", table, note=note)


def _verdict(mismatches: int, samples: int) -> str:
    if mismatches:
        return f"{mismatches:,} of {samples:,} outputs differ between device and host int8."
    return f"Every one of {samples:,} outputs of the device equals the host's int8 output bit for bit."


def confusion(run: Run) -> Html:
    """Return the confusion matrix and the commonest mix-ups; values have neither."""
    evaluation = run.evaluation or {}
    if not figures.measure_of(evaluation, run.profile).clips:
        return join()
    record, where = run.confusion, "on the device"
    if record is None and evaluation.get("confusion"):
        record = {"labels": evaluation["labels"], "counts": evaluation["confusion"]}
        where = "int8 on the host"
    if record is None:
        return _missing("Confusion", "No held-out clips were run", "earkit profile BUILD --data DIR")
    labels, counts = [str(label) for label in record["labels"]], record["counts"]
    mixups = sorted(
        (
            (n, labels[i], labels[j])
            for i, row in enumerate(counts)
            for j, n in enumerate(row)
            if n and i != j
        ),
        key=lambda mixup: (-mixup[0], mixup[1:]),
    )
    lines = [
        tag("li", tag("b", was), " heard as ", tag("b", heard), f", {n} times" if n > 1 else ", once")
        for n, was, heard in mixups[:MIXUPS_SHOWN]
    ]
    words = (
        tag("ol", *lines, class_="mixups")
        if lines
        else tag("p", "No clip was taken for another class.", class_="note")
    )
    matrix = plots.confusion(
        labels, counts, f"Confusion matrix, {where}: clips by what they were and what was heard"
    )
    return card(f"Confusion, {where}", matrix, words)


def ops(run: Run) -> Html:
    """Return instructions by node, the costliest first, and by kind of op."""
    per_op = (run.profile or {}).get("per_op") or ()
    if run.profile is None or not per_op:
        return _missing("Cost of each op", "Not profiled yet", "earkit profile BUILD")
    name, _ = figures.counted(run.profile)
    key = figures.unit_of(run.profile)
    if run.profile.get(key) is None and key == "nanoseconds":
        return _missing("Cost of each op", f"No {key} of an emulated computer", "earkit profile BUILD")
    order = sorted(per_op, key=lambda row: -int(row[key]))
    total = sum(int(row[key]) for row in order) or 1
    chart = [
        plots.Bar(str(row["name"]), _per_mac(row, key), int(row[key]), figures.part(int(row[key]), total))
        for row in order[:NODES_SHOWN]
    ]
    rest = order[NODES_SHOWN:]
    if rest:
        cost = sum(int(row[key]) for row in rest)
        chart.append(plots.Bar(f"{len(rest)} others", "", cost, figures.part(cost, total)))
    table = plots.bars(chart, max(bar.value for bar in chart), f"{name} by node of the model", ("Node", name))
    kinds: dict[str, int] = defaultdict(int)
    for row in per_op:
        kinds[str(row["op"])] += int(row[key])
    words = ", ".join(
        f"{kind} {100 * cost / total:.0f} %"
        for kind, cost in sorted(kinds.items(), key=lambda kv: -kv[1])[:6]
        if cost >= 0.005 * total
    )
    return card(
        "Cost of each op",
        tag("p", origin(run.profile), f" {total:,} {name.lower()} in the model", class_="lead"),
        table,
        note=words,
    )


def _per_mac(row: Record, key: str) -> str:
    macs = int(row.get("macs") or 0)
    return (
        f"{row['op']}, {int(row[key]) / macs:.2f}\N{NO-BREAK SPACE}a\N{NO-BREAK SPACE}MAC"
        if macs
        else str(row["op"])
    )


def memory(run: Run) -> Html:
    """Return the arena over time, its peak named."""
    if run.memory is None or not run.memory.get("steps"):
        return _missing("Memory over time", "No memory plan", "earkit compile BUNDLE --board BOARD")
    steps, arena = run.memory["steps"], int(run.memory["arena_bytes"])
    per_op = (run.profile or {}).get("per_op") or ()
    named = [f"{row['name']}, {row['op']}" for row in per_op]
    nodes = named if len(named) == len(steps) else [f"node {at}" for at in range(len(steps))]
    top = plots.peak(steps)
    alive = sorted(steps[top], key=lambda item: -int(item["bytes"]))
    total = sum(int(item["bytes"]) for item in alive)
    held = ", ".join(f"{item['tensor']} ({int(item['bytes']):,} B)" for item in alive[:4]) + (
        " …" if len(alive) > 4 else ""
    )
    words = tag("p", "Peak: ", tag("b", f"{total:,} B at node {top}"), f" ({nodes[top]}), holding {held}.")
    bound = run.memory.get("lower_bound_bytes")
    over = (
        f"; no plan needs less than {int(bound):,} B ({100 * (arena / bound - 1):.1f} % above it)"
        if bound
        else ""
    )
    picture = plots.memory_map(steps, arena, nodes)
    return card(
        "Memory over time",
        words,
        picture,
        note=f"Arena {arena:,} B{over}. Each block is a tensor; across: nodes in order.",
    )


def listening(run: Run) -> Html:
    """Return the streamed recording, what was heard in it, and when."""
    heard = run.listening
    if heard is None or not heard.samples.size:
        return _missing("What it heard", "Nothing was streamed yet", "earkit listen BUILD --source clip.wav")
    seconds = heard.samples.size / heard.rate
    strips = _strips(heard)
    lanes = [_lane("Heard", heard.events, seconds, "heard", numbered=True)]
    if heard.truth:
        lanes.append(_lane("Was there", heard.truth, seconds, "truth", numbered=False))
    rows = [
        tag(
            "tr",
            tag("th", str(i), scope="row"),
            tag("td", e.label),
            tag("td", f"{e.start:.2f} – {e.end:.2f} s", class_="n"),
            tag("td", figures.percent(e.probability), class_="n"),
        )
        for i, e in enumerate(heard.events, 1)
    ]
    head = tag("tr", *[tag("th", name, scope="col") for name in ("", "Sound", "When", "Probability")])
    table = tag(
        "table",
        tag("caption", "Detected events"),
        tag("thead", head),
        tag("tbody", *rows),
        class_="plain events",
    )
    lost = f", {heard.dropped:,} frames lost" if heard.dropped else ", no frame lost"
    note = f"{heard.source}: {seconds:.1f} s at {heard.rate:,} Hz{lost}."
    return card(
        "What it heard",
        plots.spectrogram(heard.samples, heard.rate),
        *lanes,
        strips,
        table if rows else tag("p", "No sound passed the threshold.", class_="note"),
        note=note,
        class_="listening",
    )


def _lane(name: str, events: Sequence[Detection], seconds: float, kind: str, numbered: bool) -> Html:
    ends = [*[event.start for event in events[1:]], seconds]  # a name may run on to the next event

    def place(event: Detection, free: float) -> str:
        length = max(event.end - event.start, 0.0)
        room = max(free - event.start, length)
        left, least, most = (100 * value / seconds for value in (event.start, length, room))
        return f"left:{left:.2f}%;min-width:{least:.2f}%;max-width:calc({most:.2f}% - 2px)"

    boxes = [
        tag(
            "span",
            f"{i} " if numbered else "",
            tag("small", event.label),
            class_=kind,
            title=f"{event.label}, {event.start:.2f} to {event.end:.2f} s",
            style=place(event, free),
        )
        for i, (event, free) in enumerate(zip(events, ends, strict=False), 1)
    ]
    return tag(
        "div", tag("div", name, class_="side"), tag("div", *boxes, class_="plot lane"), class_="framed wide"
    )


def _strips(heard: Listening) -> Html:
    """Return the probabilities of the classes that were believed most."""
    if not heard.probabilities.size:
        return Html()
    most = np.argsort(-heard.probabilities.max(axis=0), kind="stable")[:STRIPS_SHOWN]
    chosen = np.sort(most)
    words = f"Probability of {len(chosen)} classes over time"
    return plots.activity(heard.probabilities[:, chosen], [heard.labels[i] for i in chosen], words)


def provenance(run: Run) -> Html:
    """Return where the figures come from."""
    pairs = dict(run.provenance or {})
    data = (run.evaluation or {}).get("data")
    if isinstance(data, Mapping):
        pairs = {
            f"data {key}": value for key, value in data.items() if value not in (None, "", [], ())
        } | pairs
    notes = [str(note) for note in (run.evaluation or {}).get("notes", ())]
    if not pairs and not notes:
        return Html()
    rows = [
        tag("tr", tag("th", key.replace("_", " "), scope="row"), tag("td", _plain(value)))
        for key, value in pairs.items()
    ]
    table = tag(
        "table",
        tag("caption", "Where these figures come from"),
        tag("tbody", *rows),
        class_="plain provenance",
    )
    return card("Provenance", table, *[tag("p", note, class_="note") for note in notes])


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return (
        f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool) and value > 9_999
        else str(value)
    )
