"""What a build costs and what it gets right, counted on the board and compared with the host.

The record (profile.json) has an origin for every figure. Each window of the held-out clips goes to the board
as int16 samples; the features and the outputs that come back are compared with the host's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kit import clock, per_second
from kit.progress import Progress, silent

if TYPE_CHECKING:
    from firmware.compiler.compiled import Compiled
    from firmware.compiler.graph import Graph
    from firmware.compiler.plan import Plan
    from kit.device import Device, Unit
    from kit.heldout import HeldOut

Array = npt.NDArray[Any]
SCHEMA = 1
COUNTED = 9  # inputs whose instructions are counted; the median is reported
WARM_UP = 2  # inferences before them
RANDOM = 24  # random inputs for a model that came without clips


@dataclass(frozen=True)
class Trial:
    """N inputs through the board and the host's integer definition; features only with a front end."""

    names: Sequence[str]  # of the inputs
    inputs: Array  # int8 (N, *input): the host's features, or the inputs as they were sent
    features: Array | None  # int8 (N, *input) that the board computed from samples
    device: Array  # int8 (N, outputs)
    host: Array  # int8 (N, outputs)

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Return for each input, shape (N,), whether a feature or an output differs anywhere."""
        wrong: npt.NDArray[np.bool_] = (self.device != self.host).any(axis=1)
        if self.features is not None:
            wrong |= (self.features != self.inputs).reshape(len(wrong), -1).any(axis=1)
        return wrong

    @property
    def first(self) -> dict[str, Any] | None:
        """Return where board and host first differ: the input, feature or output, its index, both values."""
        pairs = [("output", self.device, self.host)]
        if self.features is not None:
            pairs.insert(0, ("feature", self.features, self.inputs))
        if not self.wrong.any():
            return None
        row = int(self.wrong.argmax())
        what, device, host = next(pair for pair in pairs if not np.array_equal(pair[1][row], pair[2][row]))
        place = tuple(int(i) for i in np.argwhere(device[row] != host[row])[0])
        values = {"device": int(device[row][place]), "host": int(host[row][place])}
        return {"sample": self.names[row], "what": what, "index": list(place), **values}


@dataclass(frozen=True)
class Cost:
    """Counts of one inference, medians over inputs."""

    total: int
    per_node: tuple[int, ...]
    frontend: int | None  # the features of one input
    unit: Unit
    origin: str  # "emulated" or "measured"
    runs: tuple[int, ...]  # the totals, of which `total` is the median

    @property
    def says_nothing(self) -> bool:
        """Tell whether this is time that passed while an emulator ran a program: no figure of the machine."""
        return self.unit == "nanoseconds" and self.origin == "emulated"


def hear(build: Compiled, device: Device, test: HeldOut, progress: Progress = silent) -> Trial:
    """Send the held-out windows as int16 samples; the board computes features and outputs."""
    inputs = as_input(test.windows.values, build.window)
    if build.stream:
        return _hear_hops(build, device, test, inputs, progress)
    features, outputs = [], []
    for done, window in enumerate(test.samples):
        progress("profile on the board", done, len(inputs))
        features.append(device.features(window).reshape(inputs.shape[1:]))
        outputs.append(device.infer(features[-1]))
    progress("profile on the board", len(inputs), len(inputs))
    return Trial(
        test.window_names, inputs, np.stack(features), np.stack(outputs), on_host(build.graph, inputs)
    )


def _hear_hops(build: Compiled, device: Device, test: HeldOut, inputs: Array, progress: Progress) -> Trial:
    """Stream each window to a streaming model, from a fresh start; what it says at the end is compared."""
    from models.frontend import FrontEnd

    assert build.stream is not None
    assert build.frontend is not None
    rows, window = build.stream["rows"], build.stream["window"]
    silence = np.zeros(-window % rows * FrontEnd(**build.frontend).hop, np.int16)  # to a whole number of hops
    outputs = []
    for done, samples in enumerate(test.samples):
        progress("profile on the board", done, len(inputs))
        *_, last = device.stream([np.concatenate([silence, samples])], hop_frames=rows)
        outputs.append(last.output)
    progress("profile on the board", len(inputs), len(inputs))
    return Trial(test.window_names, inputs, None, np.stack(outputs), wanted(build, inputs))


def feed(build: Compiled, device: Device, inputs: Array, progress: Progress = silent) -> Trial:
    """Send model inputs int8 (N, *input) as they are, for a model that came without clips."""
    outputs = []
    for done, one in enumerate(inputs):
        progress("profile on the board", done, len(inputs))
        if build.graph.states:  # each input is the first of a sequence, as on the host
            device.forget()
        outputs.append(_infer_hops(build, device, one) if build.stream else device.infer(one))
    progress("profile on the board", len(inputs), len(inputs))
    names = [f"input {row}" for row in range(len(inputs))]
    return Trial(names, inputs, None, np.stack(outputs), wanted(build, inputs))


def _infer_hops(build: Compiled, device: Device, window: Array) -> Array:
    """Return what a streaming model says when it has taken a window hop by hop."""
    return [device.infer(one) for one in hops(build, window)][-1]


def hops(build: Compiled, window: Array) -> list[Array]:
    """Return what the board's model takes one after the other: the hops of a window, or the window."""
    return in_hops(build.window, build.stream, window)


def in_hops(graph: Graph, stream: Mapping[str, Any] | None, window: Array) -> list[Array]:
    """Return a window model's input as its streaming form takes it; the input where it has none."""
    if stream is None:
        return [window]
    rows, into = stream["rows"], graph.tensors[graph.inputs[0]]
    zero = int(into.quantisation.zero_point[0]) if into.quantisation else 0
    silence = np.full((-stream["window"] % rows, *into.shape[2:]), zero, np.int8)
    signal = np.concatenate([silence, window.reshape(into.shape[1:])])
    return [signal[start : start + rows] for start in range(0, len(signal), rows)]


def wanted(build: Compiled, inputs: Array) -> Array:
    """Return what the host's window model says: of a stream that goes on, the window's last rows."""
    outputs = on_host(build.window, inputs)
    if build.stream and build.stream["outputs"]:
        return outputs[:, -build.graph.tensors[build.graph.outputs[0]].elements :]
    return outputs


def on_host(graph: Graph, inputs: Array) -> Array:
    """Return the outputs of the integer definition, int8 (N, outputs): bytes where there are other types."""
    from firmware.compiler import interp

    if _plain(graph):
        return interp.run_batch(graph, inputs).reshape(len(inputs), -1)
    rows = (interp.run(graph, cut(graph, row)) for row in inputs)
    return np.stack([np.frombuffer(b"".join(y.tobytes() for y in row), np.int8) for row in rows])


def _plain(graph: Graph) -> bool:
    """Tell whether the model has one int8 input and one int8 output."""
    ends = [graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)]
    return ends == ["int8", "int8"]


def cut(graph: Graph, row: Array) -> list[Array]:
    """Return the inputs whose bytes lie in a row one after the other."""
    arrays, data = [], row.tobytes()
    for value in (graph.tensors[i] for i in graph.inputs):
        arrays.append(np.frombuffer(data[: value.bytes], value.dtype).reshape(value.shape))
        data = data[value.bytes :]
    return arrays


def as_input(features: Array, graph: Graph) -> Array:
    """Return fixed-point features quantised to the model's input: int8 (N, *input)."""
    from models import frontend

    into = graph.tensors[graph.inputs[0]]
    assert into.quantisation is not None  # the compiler refuses an int8 input without one
    scale, zero = float(into.quantisation.scale[0]), int(into.quantisation.zero_point[0])
    return np.asarray(frontend.quantise(features, scale, zero), np.int8).reshape(len(features), *into.shape)


def trial_inputs(graph: Graph, most: int | None, seed: int) -> Array:
    """Return int8 edges (all lowest, all highest, zero-point, both by turns) and random inputs.

    Of a model with several inputs, or others than int8, rows of the bytes of random ones.
    """
    if not _plain(graph):
        generator = np.random.default_rng(seed)
        count = RANDOM if most is None else most
        return np.stack([_random_bytes(graph, generator) for _ in range(count)])
    into = graph.tensors[graph.inputs[0]]
    zero = int(into.quantisation.zero_point[0]) if into.quantisation else 0
    turns = np.where(np.arange(into.elements) % 2, 127, -128).reshape(into.shape)
    edges = [np.full(into.shape, value) for value in (-128, 127, zero)]
    random = np.random.default_rng(seed).integers(-128, 128, (RANDOM if most is None else most, *into.shape))
    return np.stack([*edges, turns, *random]).astype(np.int8)[:most]


def _random_bytes(graph: Graph, generator: np.random.Generator) -> Array:
    """Return the bytes of one random value of each input: integers that may be indices stay 0 or 1."""
    parts = []
    for value in (graph.tensors[i] for i in graph.inputs):
        made: Array
        if value.dtype == "float32":
            made = generator.normal(0, 1, value.shape)
        elif value.dtype in ("int8", "int16"):
            limits = np.iinfo(value.dtype)
            made = generator.integers(limits.min, limits.max + 1, value.shape)
        else:
            made = generator.integers(0, 2, value.shape)
        parts.append(made.astype(value.dtype).tobytes())
    return np.frombuffer(b"".join(parts), np.int8)


def count(device: Device, trial: Trial, samples: Array | None, progress: Progress = silent) -> Cost:
    """Return median counts of evenly spread inputs; `samples` are their windows when there is a front end."""
    chosen = np.unique(np.linspace(0, len(trial.inputs) - 1, COUNTED).round().astype(int))
    if device.origin == "measured":  # caches and bus masters make equal runs differ there
        chosen = np.resize(chosen, COUNTED)
    counts, fronts = [], []
    taken = device.info().input_bytes
    for _ in range(WARM_UP):
        device.infer(trial.inputs[0].reshape(-1)[:taken])
    for done, row in enumerate(chosen):
        progress(f"count {device.info().unit}", done, len(chosen))
        counts.append(device.profile(trial.inputs[row].reshape(-1)[:taken]))
        if samples is not None:
            *_, heard = device.stream([samples[row]], hop_frames=device.info().frames)
            fronts.append(heard.instructions - counts[-1].total)
    progress(f"count {device.info().unit}", len(chosen), len(chosen))
    per_node = np.median([one.per_node for one in counts], axis=0)
    return Cost(
        total=int(np.median([one.total for one in counts])),
        per_node=tuple(int(number) for number in per_node),
        frontend=int(np.median(fronts)) if fronts else None,
        unit=counts[0].unit,
        origin=counts[0].origin,
        runs=tuple(one.total for one in counts),
    )


def record(
    build: Compiled,
    device: Device,
    trial: Trial,
    cost: Cost,
    owner: Array | None = None,
    sound: per_second.Sound | None = None,
) -> dict[str, Any]:
    """Return the record without accuracies, with an origin for each figure.

    `owner` (N,) says which clip an input is a window of; `samples` and `mismatches` count clips then.
    `sound` is what a streaming model hears while a second of it is counted.
    """
    wrong = trial.wrong if owner is None else np.bincount(owner, trial.wrong) > 0
    used = device.memory()
    ram = {**build.sizes["ram_bytes"], "stack_high_water": used.stack_high_water}
    timeless = cost.says_nothing
    hz = clock.rate(cost.unit, build.board)
    counted = cost.unit == "instructions" or cost.origin == "emulated"
    checked = None if counted else clock.check(device, hz)
    timed = checked is not None and checked["right"]
    notes = [clock.complaint(checked, build.board, cost.unit)] if checked and not timed else []
    return {
        "schema_version": SCHEMA,
        "name": build.path.absolute().name,
        "model": build.name,
        "board": build.board.name,
        "core": build.board.core,
        "proof": build.board.proof,
        "build_id": build.build_id,
        "origin": cost.origin,
        "unit": cost.unit,
        **_count(cost),
        "milliseconds": cost.total / hz * 1e3 if timed else None,
        "runs": None if timeless else _spread(cost),
        "clock": {"hz": hz, "checked": checked},
        "energy": None,
        "toolchain": build.toolchain,
        "flags": list(build.flags),
        "frontend": None if cost.frontend is None or timeless else {cost.unit: cost.frontend},
        "per_second": None if timeless else per_second.compare(build, device, cost, sound),
        "per_op": per_op(build, cost),
        "ram_bytes": ram,
        "flash_bytes": build.sizes["flash_bytes"],
        "macs": build.sizes["macs"],
        "guards_intact": used.stack_intact and used.arena_intact,
        "accuracy": {"device": None, "host_int8": None, "host_float": None, "full": None},
        "mismatches": int(wrong.sum()),
        "first_mismatch": trial.first,
        "samples": len(wrong),
        "inputs": len(trial.names),
        "origins": _origins(cost, timed),
        "reference": None,
        "notes": [*notes, *([clock.EMULATED] if timeless else [])],
    }


def _count(cost: Cost) -> dict[str, int | None]:
    """Return the total under its unit; instructions and cycles are there whatever was counted."""
    return {"instructions": None, "cycles": None, cost.unit: None if cost.says_nothing else cost.total}


def _origins(cost: Cost, timed: bool) -> dict[str, str | None]:
    """Return where each figure comes from."""
    return {
        cost.unit: cost.origin,
        "milliseconds": cost.origin if timed else None,
        "per_op": cost.origin,
        "ram_bytes": "measured",  # in the linked image
        "ram_bytes.stack_high_water": cost.origin,
        "flash_bytes": "measured",
        "accuracy.device": cost.origin,
        "accuracy.host_int8": "measured",
        "accuracy.host_float": "measured",
        "accuracy.full": "measured",
        "mismatches": cost.origin,
    }


def _spread(cost: Cost) -> dict[str, Any]:
    """Return how many runs were counted, after how many others, and (most - least) / median as `spread`."""
    low, high = min(cost.runs), max(cost.runs)
    return {
        "warm_up": WARM_UP,
        "count": len(cost.runs),
        "median": cost.total,
        "min": low,
        "max": high,
        "spread": (high - low) / cost.total if cost.total else 0.0,
    }


def judged(record: Mapping[str, Any], metric: str, scores: Mapping[str, float | None]) -> dict[str, Any]:
    """Return the record with the scores under the name of their metric, `accuracy` or `ccc`."""
    origins = {key.replace("accuracy.", f"{metric}."): origin for key, origin in record["origins"].items()}
    changed = {metric if key == "accuracy" else key: value for key, value in record.items()}
    return {**changed, metric: dict(scores), "origins": origins}


def per_op(build: Compiled, cost: Cost) -> list[dict[str, Any]]:
    """Return name, op, MACs and counts of every node that has code, in the order they run."""
    rows = []
    for node, spent in zip(build.sizes["ops"], cost.per_node, strict=True):
        told = None if cost.says_nothing else spent
        rows.append({**node, "instructions": None, "cycles": None, cost.unit: told})
    return rows


def memory_map(graph: Graph, planned: Plan) -> dict[str, Any]:
    """Return who lives where in the arena while each node that has code runs."""
    from firmware.compiler.ops import OPS

    return {
        "arena_bytes": planned.arena,
        "lower_bound_bytes": planned.lower_bound,
        "steps": [
            [{"tensor": name, "offset": offset, "bytes": size} for name, offset, size in step]
            for node, step in zip(graph.nodes, planned.lifetimes, strict=True)
            if not OPS[node.op].alias
        ],
    }
