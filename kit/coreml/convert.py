"""An int8 .tflite to a Core ML package through the MIL builder: runs in a worker, without TensorFlow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from boards.errors import UserError
from firmware.compiler import read_tflite
from firmware.compiler.graph import Graph, Node
from firmware.compiler.passes.constants import fold_constants
from firmware.compiler.passes.inline import inline


def alone() -> None:
    """Let coremltools find none of the packages that it imports for converters which are not used here."""
    for heavy in ("tensorflow", "torch", "sklearn"):
        sys.modules.setdefault(heavy, None)  # type: ignore[arg-type]


def graph_of(model: bytes, name: str) -> Graph:
    """Return the graph of an int8 .tflite with all its shapes settled; ModelError for anything else."""
    graph = read_tflite.read(model, name)
    for made in (inline, fold_constants):
        graph = made(graph).verify()
    return graph


def check(graph: Graph) -> None:
    """Raise UserError for the first op, type or shape that has no counterpart in Core ML."""
    from kit.coreml.net import ACTIVATIONS, MOST_AXES, refuse
    from kit.coreml.ops import OPS

    if graph.states:
        raise UserError(
            f"{graph.name}: a model with states from run to run: export the window's model instead"
        )
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        many = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise UserError(f"{graph.name}: {many}, one of each goes into the package: export --as c instead")
    for node in graph.nodes:
        if node.op not in OPS:
            raise refuse(graph, node, "has no counterpart in Core ML here", "export --as c instead")
        if wrong := _wrong_types(graph, node):
            raise refuse(graph, node, f"has {wrong} values", "int8 and float32 go into Core ML")
        if any(len(graph.tensors[i].shape) > MOST_AXES for i in (*node.inputs, *node.outputs) if i >= 0):
            raise refuse(graph, node, f"has more than {MOST_AXES} axes", "reshape it in the model")
        if (used := node.options.get("fused_activation_function", "NONE")) not in ACTIVATIONS:
            raise refuse(graph, node, f"ends in {used}", f"use one of {', '.join(ACTIVATIONS)}")
        if not all(graph.tensors[i].constant for i in fixed(node) if i >= 0):
            raise refuse(graph, node, "gets its weights or sizes at run time", "make them constants")


def fixed(node: Node) -> tuple[int, ...]:
    """Return the inputs of a node that must be constants."""
    if node.op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SLICE"):
        return node.inputs[1:]
    return node.inputs[1:2] if node.op in SHAPED else ()


SHAPED = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "TRANSPOSE", "PAD")


def _wrong_types(graph: Graph, node: Node) -> str | None:
    live = [
        graph.tensors[i] for i in (*node.inputs, *node.outputs) if i >= 0 and not graph.tensors[i].constant
    ]
    if node.op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        weights = graph.tensors[node.inputs[1]]
        live.append(weights)
        if weights.dtype == "int8" and weights.quantisation is None:
            return "unscaled int8"
    for tensor in live:
        if tensor.dtype not in ("int8", "float32"):
            return tensor.dtype
        if tensor.dtype == "int8" and tensor.quantisation is None:
            return "unscaled int8"
    return None


def convert(model: str, out: str, name: str, facts: dict[str, str]) -> dict[str, Any]:
    """Write the .tflite `model` as the package `out`; return what was verified by reading it back.

    `facts` go into the package's metadata. Core ML itself is never run: it exists on Apple's systems only.
    """
    alone()
    graph = graph_of(Path(model).read_bytes(), name)
    check(graph)
    from kit.coreml import read_back

    net = written(graph, Path(out), facts)
    return read_back.verified(Path(out), net)


def written(graph: Graph, out: Path, facts: dict[str, str]) -> Any:
    """Write a checked graph as the package `out`; return the Net, which knows the names of its constants."""
    import coremltools as ct
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import types

    from kit.coreml.net import Net
    from kit.coreml.ops import OPS

    net = Net(graph)
    source, last = graph.inputs[0], graph.outputs[0]
    spec = Builder.TensorSpec(shape=graph.tensors[source].shape, dtype=types.fp32)

    @Builder.program(input_specs=[spec], opset_version=ct.target.iOS17)  # type: ignore[untyped-decorator, unused-ignore]
    def program(features: Any) -> Any:
        net.begin(source, features)
        for node in graph.nodes:
            OPS[node.op](net, node)
        return Builder.identity(x=net.rows(last), name="scores")

    made = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        compute_units=ct.ComputeUnit.CPU_ONLY,
        skip_model_load=True,
        pass_pipeline=ct.PassPipeline.EMPTY,  # the structure stays the one of the .tflite
    )
    made.short_description, made.license, made.author = facts["description"], facts["licence"], "earkit"
    made.user_defined_metadata.update(facts)
    made.save(str(out))
    return net


def run(package: str, inputs: str, outputs: str) -> None:
    """Evaluate a package in numpy: real numbers from the .npy `inputs`, one clip each row, to `outputs`."""
    alone()
    from kit.coreml import evaluate

    program = evaluate.load(Path(package))
    given = np.load(inputs, allow_pickle=False)
    made = [evaluate.run(program, x[None]) for x in given]
    np.save(outputs, np.concatenate(made), allow_pickle=False)
