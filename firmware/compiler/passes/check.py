"""Refuses what cannot be compiled, before any C is written."""

from __future__ import annotations

from firmware.compiler.graph import Graph, ModelError, Node
from firmware.compiler.ops import OPS, refuse

CURE_FLOAT = "quantise it to int8 first (earkit compress, or full-integer post-training quantisation)"
CURE_INTEGER = "leave the class to the reader of the scores: end the model before its ARG_MAX or CAST"
QUANTISED = ("int8", "int16")
ENDS = (*QUANTISED, "int32", "bool", "float32")  # types of inputs and outputs
CURES = {  # type of an input or output that has a cure of its own
    "uint8": "convert it again with inference_input_type and inference_output_type = tf.int8",
    "int64": CURE_INTEGER,
}
# What to write instead of an op that is not compiled, in the model that is exported.
REWRITES = {
    "ATAN2": "compute the phase outside of the model, or keep real and imaginary parts",
    "BITWISE_XOR": "use comparisons and LOGICAL ops on booleans",
    "BUCKETIZE": "add up comparisons with the borders",
    "COMPLEX_ABS": "move the spectrogram to the front end of the board",
    "CONV_3D": "write it as 2-D convolutions of each slice, added",
    "CONV_3D_TRANSPOSE": "write it as 2-D transpose convolutions of each slice, added",
    "DENSIFY": "export the weights dense",
    "EMBEDDING_LOOKUP_SPARSE": "use tf.gather and a sum",
    "FAKE_QUANT": "convert with quantisation on, so that ranges become scales",
    "IMAG": "move the spectrogram to the front end of the board",
    "L2_POOL_2D": "write it as sqrt(average_pool(x*x))",
    "LOCAL_RESPONSE_NORMALIZATION": "use a batch or layer normalisation",
    "MATRIX_DIAG": "multiply by a constant identity matrix",
    "MATRIX_SET_DIAG": "select with a constant mask of the diagonal",
    "MULTINOMIAL": "draw outside of the model; it gives the scores",
    "NON_MAX_SUPPRESSION_V4": "end the model before it: how many it finds is not known when compiling",
    "NON_MAX_SUPPRESSION_V5": "end the model before it: how many it finds is not known when compiling",
    "RANDOM_STANDARD_NORMAL": "make the noise an input of the model",
    "RANDOM_UNIFORM": "make the noise an input of the model",
    "REAL": "move the spectrogram to the front end of the board",
    "REDUCE_WINDOW": "use MAX_POOL_2D or AVERAGE_POOL_2D",
    "RFFT2D": "move the spectrogram to the front end of the board",
    "RIGHT_SHIFT": "multiply by a power of two",
    "SCATTER_ND": "select with a constant mask, or use DYNAMIC_UPDATE_SLICE",
    "SEGMENT_SUM": "multiply by a constant matrix of zeros and ones",
    "SPARSE_TO_DENSE": "export the tensor dense",
    "UNIQUE": "end the model before it: how many it finds is not known when compiling",
    "WHERE": "select with the condition (tf.where of three arguments)",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "write it as a forward and a backward LSTM, joined",
    "LSTM": "use the Keras LSTM layer, which becomes UNIDIRECTIONAL_SEQUENCE_LSTM",
    "RNN": "use an LSTM layer, or unroll the steps (unroll=True)",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "use an LSTM layer, or unroll the steps (unroll=True)",
    "BIDIRECTIONAL_SEQUENCE_RNN": "use LSTM layers, or unroll the steps (unroll=True)",
}


# The same for ops of one beginning.
FAMILIES = {
    "CUSTOM Audio": "move the spectrogram to the front end of the board",
    "CUSTOM Flex": "convert without SELECT_TF_OPS, so that only builtin ops are left",
    "CUSTOM Mfcc": "move the cepstrum to the front end of the board",
    "CUSTOM TFLite_Detection": "end the model before it",
    "HASHTABLE": "look words up before the model; it takes their numbers",
    "STABLEHLO_": "convert to TFLite's builtin ops (target_spec.supported_ops = TFLITE_BUILTINS_INT8)",
    "UNSORTED_SEGMENT": "multiply by a constant matrix of zeros and ones",
}


def check(graph: Graph) -> Graph:
    """Return the graph itself when every node can be compiled; ModelError with the cure otherwise."""
    _check_ends(graph)
    for node in graph.nodes:
        _check_node(graph, node)
    return graph


def _check_ends(graph: Graph) -> None:
    running = {i for node in graph.nodes for i in (*node.inputs, *node.outputs) if i >= 0}
    integer = any(graph.tensors[i].dtype in QUANTISED for i in running if not graph.tensors[i].constant)
    for value in (graph.tensors[i] for i in (*graph.inputs, *graph.outputs)):
        if value.dtype not in ENDS or (value.dtype == "float32" and not integer):
            kind = "a float model" if value.dtype.startswith("float") else "not an int8 model"
            cure = CURES.get(value.dtype, CURE_FLOAT)
            raise ModelError(f"{graph.name} is {kind} (tensor {value.name!r} is {value.dtype}): {cure}")
        if value.constant:
            raise ModelError(f"{graph.name}: output {value.name!r} is a constant: leave it out of the model")
        if value.dtype in QUANTISED and (value.quantisation is None or value.quantisation.scale.size != 1):
            raise ModelError(f"{graph.name}: tensor {value.name!r} has no scale: {CURE_FLOAT}")


def _check_node(graph: Graph, node: Node) -> None:
    op = OPS.get(node.op)
    if op is None:
        family = next((cure for start, cure in FAMILIES.items() if node.op.startswith(start)), "")
        cure = REWRITES.get(node.op) or family or "rewrite it with ops that are (the README lists them)"
        raise refuse(graph, node, f"tensor {graph.tensors[node.outputs[0]].name!r}: op is not compiled", cure)
    if node.version not in op.versions:
        what = f"version {node.version} is not one of {op.versions.start}–{op.versions.stop - 1}"
        raise refuse(graph, node, what, "export the model with another converter release")
    op.check(graph, node)
