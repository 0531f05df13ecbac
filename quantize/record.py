"""What a bundle says of itself: accuracy of every stage on the test clips, exact outputs, provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from firmware.compiler import interp, read_tflite
from firmware.compiler.graph import Graph
from firmware.compiler.passes.islands import name_floats
from models import frontend, tasks, train
from models.blocks import cost
from quantize import bundle, evaluate, versions
from quantize.bundle import Bundle, Provenance, Tensor
from quantize.deploy import Files
from quantize.evaluate import Evaluation, Facts, Stage, ValueEvaluation, ValueStage, Windows
from quantize.stages import Net, Progress
from quantize.teachers import Teacher

if TYPE_CHECKING:
    from quantize.jobs import Job

Array = npt.NDArray[Any]
EXPECTED = 8  # inputs whose exact outputs travel with the bundle
LICENCE = "Apache-2.0"
EXACT = "firmware.compiler.interp, bit-exact with TFLM"
JUDGED = 32  # test windows that the exact interpreter takes between two reports of progress


def evaluation(
    job: Job,
    teacher: Teacher | None,
    nets: Mapping[str, Net | None],
    files: Files,
    test: Windows,
    progress: Progress,
) -> Evaluation | ValueEvaluation:
    """Return `eval.json`: teacher, nets in their order, then the int8 model, all on the same test clips."""
    labels = job.splits.labels
    stages = float_stages(job, teacher, nets, test)
    facts = Facts(stages[-1].parameters, stages[-1].macs, EXACT)
    if files.ptq is not None:
        outputs = answers(files.ptq, test, progress)
        stages.append(evaluate.stage("ptq", "int8 without QAT", facts, test, outputs, labels))
    outputs = answers(files.int8_model, test, progress)
    what = f"{job.family.card.name} {job.size}, int8"
    stages.append(evaluate.stage("int8", what, facts, test, outputs, labels))
    known: dict[str, Any] = {"data": job.splits.record, "labels": labels, "stages": stages, "qat": files.qat}
    if tasks.of(test.truth) is tasks.VALUES:
        return ValueEvaluation(**known)
    return Evaluation(confusion=evaluate.confusion(test, outputs, len(labels)), **known)


def float_stages(
    job: Job, teacher: Teacher | None, nets: Mapping[str, Net | None], test: Windows
) -> list[Stage | ValueStage]:
    """Return the records of the teacher and of nets, in their order, in float."""
    return [*_teacher_stage(teacher, job.splits.labels), *_net_stages(job, nets, test)]


def _teacher_stage(teacher: Teacher | None, labels: tuple[str, ...]) -> list[Stage | ValueStage]:
    if teacher is None or teacher.test_outputs is None:
        return []
    facts = Facts(teacher.parameters, teacher.macs, teacher.runtime, teacher.speed)
    return [evaluate.stage("full", teacher.what, facts, teacher.test, teacher.test_outputs, labels)]


def _net_stages(job: Job, nets: Mapping[str, Net | None], test: Windows) -> list[Stage | ValueStage]:
    x, labels = frontend.to_float(test.values), job.splits.labels
    what = f"{job.family.card.name} {job.size}, float"
    stages = []
    for name, net in nets.items():
        if net is not None:
            facts = Facts(cost.parameters(net.model), cost.macs(net.model), "keras")
            stages.append(evaluate.stage(name, what, facts, test, train.predict(net.model, x), labels))
    return stages


def answers(model: bytes, test: Windows, progress: Progress) -> Array:
    """Return what the device will say (windows, outputs): int8 of classes, the values of targets."""
    outputs = exact(model, test, progress)
    if tasks.of(test.truth) is tasks.CLASSES:
        return outputs
    graph = _read(model)
    return _tensor(graph, graph.outputs[0]).real(outputs)


def exact(model: bytes, test: Windows, progress: Progress) -> Array:
    """Return the int8 outputs (windows, classes) that the device will give, by the interpreter."""
    graph = _read(model)
    inputs = as_inputs(graph, test.values)
    rows = []
    for start in range(0, len(inputs), JUDGED):
        progress("test int8", start, len(inputs))
        rows.append(interp.run_batch(graph, inputs[start : start + JUDGED]))
    progress("test int8", len(inputs), len(inputs))
    return np.concatenate(rows).reshape(len(inputs), -1)


def as_inputs(graph: Graph, values: Array) -> Array:
    """Return fixed-point features (N, frames, features) as the model's int8 input, as the device makes it."""
    tensor = _tensor(graph, graph.inputs[0])
    return frontend.quantise(values, tensor.scale, tensor.zero_point).reshape(len(values), *tensor.shape[1:])


def contents(
    files: Files, calibration: Array, test: Windows, judged: Evaluation | ValueEvaluation
) -> dict[str, bytes]:
    """Return the files of the bundle by name."""
    graph = _read(files.int8_model)
    spread = np.unique(np.linspace(0, len(test.values) - 1, EXPECTED).round().astype(int))
    inputs = as_inputs(graph, test.values[spread])
    edges = np.stack([np.full(inputs.shape[1:], value, np.int8) for value in (-128, 127)])
    inputs = np.concatenate([inputs, edges])
    outputs = interp.run_batch(graph, inputs).reshape(len(inputs), -1)
    return {
        bundle.MODEL: files.int8_model,
        bundle.FLOAT: files.float_model,
        bundle.ONNX: files.onnx,
        bundle.CALIBRATION: bundle.write_npz(features=calibration.astype(np.float32)),
        bundle.EVALUATION: judged.model_dump_json(indent=2).encode() + b"\n",
        bundle.EXPECTED: bundle.write_npz(inputs=inputs, outputs=outputs),
    }


def manifest(job: Job, net: Net, files: Files) -> Bundle:
    """Return `bundle.json` without its hashes."""
    graph = _read(files.int8_model)
    return Bundle(
        family=job.family.card.name,
        size=job.size,
        task=job.task,
        labels=job.splits.labels,
        sample_rate=job.fe.sample_rate,
        frontend=job.fe,
        config=json.loads(json.dumps(net.config)),  # tuples become lists
        inputs=tuple(_tensor(graph, i) for i in graph.inputs),
        outputs=tuple(_tensor(graph, i) for i in graph.outputs),
        licence=LICENCE,
        provenance=Provenance(
            data=job.splits.record.name,
            data_sha256=job.splits.record.sha256,
            held_out=job.splits.record.held_out,
            seed=job.seed,
            settings_sha256=job.digest,
            git_revision=versions.git_revision(),
            teacher=job.teacher,
            versions=versions.packages(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )


def _read(model: bytes) -> Graph:
    """Return the graph of an int8 model as it is, its float islands included."""
    return name_floats(read_tflite.read(model, bundle.MODEL))


def _tensor(graph: Graph, index: int) -> Tensor:
    tensor = graph.tensors[index]
    assert tensor.quantisation is not None  # int8.refuse_float has looked
    scale, zero_point = tensor.quantisation.scale[0], tensor.quantisation.zero_point[0]
    return Tensor(name=tensor.name, shape=tensor.shape, scale=float(scale), zero_point=int(zero_point))
