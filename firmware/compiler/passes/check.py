"""Refuses what cannot be compiled, before any C is written."""

from __future__ import annotations

from firmware.compiler.graph import Graph, ModelError, Node
from firmware.compiler.ops import OPS, refuse

CURE_FLOAT = "quantise it to int8 first (earkit compress, or full-integer post-training quantisation)"
CURE_INTEGER = "leave the class to the reader of the scores: end the model before its ARG_MAX or CAST"
CURES = {  # type of an input or output that has a cure of its own
    "uint8": "convert it again with inference_input_type and inference_output_type = tf.int8",
    "int32": CURE_INTEGER,
    "int64": CURE_INTEGER,
}
# What to write instead of an op that is not compiled, in the model that is exported.
REWRITES = {
    "CUMSUM": "multiply by a constant triangular matrix",
    "GATHER_ND": "use constant slices and concatenate",
    "L2_NORMALIZATION": "multiply by rsqrt(mean(x*x)+eps)",
    "NEG": "multiply by -1",
    "REVERSE_V2": "gather with constant indices, or unstack and stack",
    "RFFT2D": "move the spectrogram to the front end of the board",
    "SELECT_V2": "use tf.gather in place of an Embedding layer",
    "SQUARE": "write x*x",
    "TILE": "resize with nearest neighbours, or let broadcasting repeat it",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "export one step with its state as input and output",
    "WHILE": "unroll the loop (unroll=True)",
}


def check(graph: Graph) -> Graph:
    """Return the graph itself when every node can be compiled; ModelError with the cure otherwise."""
    _check_int8(graph)
    for node in graph.nodes:
        _check_node(graph, node)
    return graph


def _check_int8(graph: Graph) -> None:
    ends = [graph.tensors[i] for i in (*graph.inputs, *graph.outputs)]
    for value in ends:
        if value.dtype != "int8":
            kind = "a float model" if value.dtype.startswith("float") else "not an int8 model"
            cure = CURES.get(value.dtype, CURE_FLOAT)
            raise ModelError(f"{graph.name} is {kind} (tensor {value.name!r} is {value.dtype}): {cure}")
        if value.quantisation is None or value.quantisation.scale.size != 1:
            raise ModelError(f"{graph.name}: tensor {value.name!r} has no scale: {CURE_FLOAT}")


def _check_node(graph: Graph, node: Node) -> None:
    op = OPS.get(node.op)
    if op is None:
        cure = REWRITES.get(node.op, f"rewrite it with the ops that are compiled ({', '.join(sorted(OPS))})")
        raise refuse(graph, node, f"tensor {graph.tensors[node.outputs[0]].name!r}: op is not compiled", cure)
    if node.version not in op.versions:
        what = f"version {node.version} is not one of {op.versions.start}–{op.versions.stop - 1}"
        raise refuse(graph, node, what, "export the model with another converter release")
    op.check(graph, node)
