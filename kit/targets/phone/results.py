"""What a phone measured, checked and judged by the host: a run that `earkit report` draws."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from boards.errors import UserError
from kit import measure, profile
from kit.progress import silent
from kit.records import Run
from quantize import evaluate, speed

if TYPE_CHECKING:
    from kit.targets.phone.offer import Offer

MOST_TIMES = 20_000  # of one kind
NUMBER_BYTES = 24  # of one in JSON, at most
TOO_FAST = "no milliseconds: most runs take less than a step of this browser's clock: try another browser"
Milliseconds = Annotated[float, Field(ge=0, le=3_600_000), AfterValidator(abs)]  # -0.0 is 0
Times = Annotated[tuple[Milliseconds, ...], Field(max_length=MOST_TIMES)]
Byte = Annotated[int, Field(ge=-128, le=127)]


class Report(BaseModel):
    """What the page sends: worker.js makes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    build: str
    outputs: tuple[Byte, ...]  # of all inputs, one after the other
    run_ms: Annotated[Times, Field(min_length=1)]  # of runs of the model, evenly spread when there were more
    frontend_ms: Times  # of the features of an input
    warm_up: Annotated[int, Field(ge=0, le=10_000)]  # runs before the first of these
    resolution_ms: Annotated[float, Field(gt=0, le=1000)]  # of the browser's clock
    isolated: bool  # whether the browser gives this page its finer clock
    seconds: Annotated[float, Field(ge=0, le=86_400)]
    cores: Annotated[int, Field(ge=0, le=4096)]
    memory: Annotated[int, Field(gt=0, le=1 << 32)]  # bytes of the module's


def most_bytes(offer: Offer) -> int:
    """Return the size that a report of this test does not exceed."""
    return 4096 + offer.trial.host.size * 6 + 2 * MOST_TIMES * NUMBER_BYTES


def read(offer: Offer, text: bytes) -> Report:
    """Return the report in JSON.

    Raises:
        UserError: it is not a report of this test.
    """
    try:
        report = Report.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"][:2])) or "JSON"
        raise UserError(f"results: {''.join(filter(str.isprintable, where))[:40]}: {first['msg']}") from None
    if report.build != offer.about["build"]:
        raise UserError("results: they are of another build: load the page again")
    if len(report.outputs) != offer.trial.host.size:
        raise UserError(f"results: {len(report.outputs)} outputs, the test has {offer.trial.host.size}")
    return report


def judge(offer: Offer, report: Report, agent: str) -> Run:
    """Return the run of a test on the phone whose browser calls itself `agent`."""
    trial = offer.trial
    device = np.array(report.outputs, np.int8).reshape(trial.host.shape)
    record = _record(offer, report, agent, device)
    facts = {
        "browser": agent,
        "cores": report.cores or "not told",
        "browser's clock": _clock(report),
        "build": report.build,
        "module": f"{len(offer.module):,} B of wasm",
    }
    run = Run(
        f"{offer.name} in a browser",
        evaluation=offer.bundle.evaluation(),
        profile=record,
        memory=profile.memory_map(offer.graph, offer.plan),
        provenance={**facts, **measure.origin(offer.bundle)},
    )
    if trial.test is None or trial.test.clips.regression:
        return run
    held = trial.test.clips
    counts = evaluate.confusion(held.windows, device, len(held.labels))
    return replace(run, confusion={"labels": held.labels, "counts": counts})


def _record(offer: Offer, report: Report, agent: str, device: npt.NDArray[np.int8]) -> dict[str, Any]:
    """Return profile.json: of a browser there are times, and neither instructions nor cycles."""
    trial, times = offer.trial, speed.summary(report.run_ms)
    front = speed.summary(report.frontend_ms) if report.frontend_ms else None
    seen = times["median"] >= report.resolution_ms
    wrong = (device != trial.host).any(axis=1)
    scores: dict[str, float | None] = dict.fromkeys(("device", "host_int8", "host_float", "full"))
    full = measure.Full(None, None)
    if trial.test is not None:
        full = measure.full_size(offer.bundle, trial.test, "full", silent)
        held, into = trial.test.clips, offer.bundle.outputs[0]
        wrong = np.bincount(held.windows.owner, wrong) > 0
        scores |= {
            "device": held.score(device, into),
            "host_int8": held.score(trial.host, into),
            "full": full.score,
        }
    record = {
        "schema_version": profile.SCHEMA,
        "name": offer.name,
        "model": offer.name,
        "board": "browser",
        "proof": "measured on hardware",
        "device": agent,
        "build_id": report.build,
        "origin": "measured",
        "instructions": None,
        "cycles": None,
        "milliseconds": times["median"] if seen else None,
        "latency": {
            **times,
            "of": "a run of the model" if offer.stream is None else "a hop of the stream",
            "warm_up": report.warm_up,
            "resolution_ms": report.resolution_ms,
        },
        "frontend": {"milliseconds": front["median"]} if front else None,
        "per_second": None,
        "per_op": [],
        "ram_bytes": {"arena": offer.plan.arena, "state": offer.plan.state, "total": report.memory},
        "flash_bytes": {"module": len(offer.module), "total": len(offer.module)},
        "mismatches": int(wrong.sum()),
        "samples": len(wrong),
        "inputs": len(device),
        "origins": dict.fromkeys(
            ("milliseconds", "latency", "ram_bytes", "flash_bytes", "mismatches"), "measured"
        ),
        "accuracy": scores,
        "reference": full.where,
        "energy": None,
        "notes": [*trial.notes, *full.notes, *([] if seen else [TOO_FAST])],
    }
    return profile.judged(record, offer.bundle.evaluation()["metric"], scores)


def summary(run: Run, where: str) -> dict[str, Any]:
    """Return what the page and the terminal show of a run."""
    assert run.profile is not None
    kept = ("samples", "mismatches", "latency", "accuracy", "ccc", "device", "notes")
    return {"run": where, **{key: run.profile[key] for key in kept if key in run.profile}}


def _clock(report: Report) -> str:
    kind = "isolated page" if report.isolated else "coarse, the page is not isolated"
    return f"{report.resolution_ms * 1000:.0f} µs a step ({kind})"
