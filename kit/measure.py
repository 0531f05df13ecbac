"""A profile from start to record: the clips, the board, the host in int8 and in float, and the full size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boards.errors import UserError
from kit import first_op, heldout, per_second, profile, reference
from kit.progress import Progress
from kit.records import Run
from models import frontend
from models.data.layouts import MADE
from quantize import evaluate, prepare, stored_teacher
from quantize.bundle import FLOAT

if TYPE_CHECKING:
    from firmware.compiler.compiled import Compiled
    from kit.device import Device
    from quantize.bundle import Bundle
    from quantize.prepare import Splits


@dataclass(frozen=True)
class Test:
    """The clips of a profile; `same` if they are exactly those that the bundle's eval.json counted."""

    clips: heldout.HeldOut
    splits: Splits
    same: bool
    notes: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """Return where they come from, as in eval.json."""
        return self.splits.record.model_dump(mode="json")


@dataclass(frozen=True)
class Full:
    """The full size on the clips of a profile: its score, what it was and ran on, what must be said."""

    score: float | None
    where: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def clips(
    bundle: Bundle, data: str | None, held_out: str | None, most: int | None, progress: Progress
) -> Test:
    """Return the test clips: those of the bundle's own evaluation, unless `data` or `held_out` say otherwise.

    Raises:
        UserError: the data is not where it was, cannot be read, or has other classes.
    """
    before = bundle.evaluation()["data"]
    source = before["source"] if data is None else data
    if data is None and source not in MADE and not Path(source).exists():
        raise UserError(
            f"the clips that the bundle was tested with are not here ({source}); --data names them"
        )
    splits = prepare.load(
        source,
        held_out=held_out,
        seed=before["split_seed"],
        clips_per_class=before["clips_per_class"] if source == before["source"] else None,
        usual=before["held_out"],
        progress=progress,
    )
    fold = splits.record.held_out
    found = heldout.cut(splits.test, bundle.labels, bundle.frontend, most=most, progress=progress)
    known = splits.record.sha256 == before["sha256"]
    same = known and fold == before["held_out"] and len(found.names) == before["test"]
    notes = [*splits.record.warnings, *_caveat(source, known, fold == before["held_out"], data is None)]
    return Test(found, splits, same, tuple(notes))


def _caveat(source: str, known: bool, same_fold: bool, own: bool) -> list[str]:
    if known:
        return (
            []
            if same_fold
            else ["another fold than the bundle held out: the model was trained on these clips"]
        )
    if own:
        return [f"{source} has changed since the bundle was made: some test clips may have been trained on"]
    return [f"{source} is not the data that the bundle was made from"]


def bare(made: Compiled, board: Device, most: int | None, seed: int, progress: Progress) -> Run:
    """Return the run of a model without clips: edge and random inputs, board against host."""
    trial = profile.feed(made, board, profile.trial_inputs(made.window, most, seed), progress)
    cost = profile.count(board, trial, None, progress)
    record = _with_op(made, board, trial, profile.record(made, board, trial, cost))
    return Run(
        made.name,
        profile=record,
        memory=profile.memory_map(made.graph, made.plan),
        provenance=_provenance(made),
    )


def bundled(made: Compiled, board: Device, bundle: Bundle, test: Test, full: Full, progress: Progress) -> Run:
    """Return the run of a bundle on its held-out clips, with the scores of board, host and full size."""
    held, windows = test.clips, test.clips.windows
    trial = profile.hear(made, board, held, progress)
    cost = profile.count(board, trial, held.samples, progress)
    record = profile.record(made, board, trial, cost, windows.owner, _sound(made, bundle, held))
    record = _with_op(made, board, trial, record)
    into = bundle.outputs[0]
    scores = {
        "device": held.score(trial.device, into),
        "host_int8": held.score(trial.host, into),
        "host_float": held.score(_float(bundle, held, progress)),
        "full": full.score,
    }
    evaluation = bundle.evaluation()
    return Run(
        made.name,
        evaluation=evaluation,
        profile={
            **profile.judged(record, evaluation["metric"], scores),
            "reference": full.where,
            "data": test.record,
            "notes": [*record["notes"], *test.notes, *full.notes],
        },
        memory=profile.memory_map(made.graph, made.plan),
        confusion=None
        if held.regression
        else {
            "labels": held.labels,
            "counts": evaluate.confusion(windows, trial.device, len(held.labels)),
        },
        provenance={**_provenance(made), **origin(bundle)},
    )


def _with_op(made: Compiled, board: Device, trial: profile.Trial, record: dict[str, Any]) -> dict[str, Any]:
    """Name the first op that differs beside the first output that does."""
    first = trial.first
    if first is None or first["what"] != "output":
        return record
    window = trial.inputs[list(trial.names).index(first["sample"])]
    found = first_op.find(made, board, profile.hops(made, window))
    notes = [] if found else ["no op differs when it runs alone on that input: the fault comes and goes"]
    return {**record, "first_mismatch": {**first, "op": found}, "notes": [*record["notes"], *notes]}


def _sound(made: Compiled, bundle: Bundle, held: heldout.HeldOut) -> Any:
    """Return sound for a streaming model to be counted on, None for another."""
    if made.stream is None:
        return None
    hop = made.stream["rows"] * bundle.frontend.hop
    return per_second.enough(held.samples, bundle.frontend.samples, hop)


def _float(bundle: Bundle, held: heldout.HeldOut, progress: Progress) -> Any:
    model = reference.tflite(bundle.read(FLOAT), "float model")
    return reference.run(model, frontend.to_float(held.windows.values), progress)


def full_size(bundle: Bundle, test: Test, against: str, progress: Progress) -> Full:
    """Return how right the full size is, what it is and how fast.

    `against` is `full`, as eval.json has it; a model file, which runs here and now; or what `earkit
    reference` stored of one that ran anywhere, with a front end of its own.

    Raises:
        UserError: the file cannot be read, or does not fit the features, the clips or the labels.
    """
    if against == "full":
        return _teacher(bundle, test)
    if Path(against).suffix == ".npz":
        return _stored(Path(against), bundle, test)
    model, x = reference.load(Path(against)), frontend.to_float(test.clips.windows.values)
    outputs = reference.run(model, x, progress)
    if outputs.shape[1] != len(bundle.labels):
        count = outputs.shape[1]
        raise UserError(f"{against}: gives {count} outputs, the bundle has {len(bundle.labels)} labels")
    progress("time the reference", 0, 1)
    where = {"name": model.name, "file": against, **reference.timed(model, x)}
    progress("time the reference", 1, 1)
    return Full(test.clips.score(outputs), where)


def _stored(path: Path, bundle: Bundle, test: Test) -> Full:
    """Return the score of what a reference said elsewhere, and its speed there."""
    arrays = stored_teacher.read(path)
    said = stored_teacher.hear(path, arrays, test.splits)
    where = {"name": said.what, **(said.speed or {"device": "not recorded", "milliseconds": None})}
    note = () if said.speed else (f"{path} has no speed in it: run `earkit reference` again",)
    if said.test_outputs is None:
        return Full(
            None, where, (f"{path} knows the training clips only: no figure for the full size", *note)
        )
    known = list(test.splits.labels)
    if set(known) != set(bundle.labels):
        raise UserError(f"{path}: hears {len(known)} labels of the data, the bundle has {len(bundle.labels)}")
    rows = {clip.name: row for row, clip in enumerate(test.splits.test.clips)}
    outputs = said.test_outputs[[rows[test.clips.names[owner]] for owner in test.clips.windows.owner]]
    outputs = outputs[:, [known.index(label) for label in bundle.labels]]
    return Full(test.clips.score(outputs), where, note)


def _teacher(bundle: Bundle, test: Test) -> Full:
    evaluation = bundle.evaluation()
    stage = next((s for s in evaluation["stages"] if s["name"] == "full"), None)
    if stage is not None and test.same:
        known = stage.get("speed") or {"parameters": stage["parameters"], "milliseconds": None}
        where = {"device": stage["runtime"], **known, "name": stage["what"]}
        return Full(stage[evaluation["metric"]], where)
    why = "these are not the clips of eval.json" if stage else "the bundle was made without a teacher"
    return Full(None, None, (f"no figure for the full size: {why}; give a model with --against FILE",))


def _provenance(made: Compiled) -> dict[str, Any]:
    return {
        "board": made.board.title,
        "build": made.build_id,
        "clock": f"{made.board.clock_hz / 1e6:g} MHz" if made.board.clock_hz else None,
        "compiler": made.toolchain,
        "flags": " ".join(made.flags),
    }


def origin(bundle: Bundle) -> dict[str, Any]:
    """Return where a bundle comes from, for `Run.provenance`."""
    made = bundle.provenance
    return {
        "family": f"{bundle.family} {bundle.size}",
        "data": made.data,
        "data SHA-256": made.data_sha256,
        "seed": made.seed,
        "teacher": made.teacher,
        "git revision": made.git_revision,
        "made": made.created,
        "licence": bundle.licence,
        **made.versions,
    }
