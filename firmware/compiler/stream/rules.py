"""One rule a kind of op, by its name; the ops that take no rows as they come, and why."""

from __future__ import annotations

from collections.abc import Mapping

from firmware.compiler.floats import PREFIX
from firmware.compiler.graph import Node
from firmware.compiler.ops import OPS
from firmware.compiler.stream import filters, recurrent, rows, shapes
from firmware.compiler.stream.flow import Builder, Flow, Rule


def attention(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Attention within each chunk, as the steps that it was joined from; over the window it stops rows."""
    for step in node.options["chain"]:
        RULES[step.op](
            b, step, {i: b.flows[tensor] for i, tensor in enumerate(step.inputs) if tensor in b.flows}
        )


GROUPS: Mapping[Rule, tuple[str, ...]] = {
    rows.elementwise: (
        *("ADD", "ADD_N", "DIV", "FLOOR_DIV", "FLOOR_MOD", "MAXIMUM", "MINIMUM", "MUL", "POW", "PRELU"),
        *("SELECT", "SELECT_V2", "SQUARED_DIFFERENCE", "SUB"),
        *("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"),
        *("LOGICAL_AND", "LOGICAL_OR"),
    ),
    rows.unary: (
        *("ABS", "CAST", "CEIL", "COS", "DEQUANTIZE", "EAR_COPY", "EAR_TABLE", "ELU", "EXP", "FLOOR"),
        *("GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGICAL_NOT", "LOGISTIC", "NEG", "QUANTIZE"),
        *("RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE"),
        "TANH",
    ),
    rows.by_row: ("L2_NORMALIZATION", "LOG_SOFTMAX", "SOFTMAX", "TOPK_V2"),
    rows.norm: ("EAR_NORM",),
    rows.products: ("EAR_PRODUCTS",),
    rows.fully_connected: ("FULLY_CONNECTED",),
    rows.batch_matmul: ("BATCH_MATMUL",),
    rows.reduce: (
        *("ARG_MAX", "ARG_MIN", "MEAN", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX", "REDUCE_MIN"),
        *("REDUCE_PROD", "SUM"),
    ),
    rows.cumulative: ("CUMSUM",),
    filters.windowed: ("AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D"),
    filters.transpose_conv: ("TRANSPOSE_CONV",),
    attention: ("EAR_ATTENTION", "EAR_ATTENTION_IN_PLACE"),
    recurrent.scan: ("EAR_SCAN",),
    recurrent.lstm: ("UNIDIRECTIONAL_SEQUENCE_LSTM",),
    shapes.reshape: ("EXPAND_DIMS", "RESHAPE", "SQUEEZE"),
    shapes.transpose: ("TRANSPOSE",),
    shapes.joined: ("CONCATENATION", "PACK"),
    shapes.split: ("SPLIT", "SPLIT_V", "UNPACK"),
    shapes.sliced: ("SLICE", "STRIDED_SLICE"),
    shapes.pad: ("MIRROR_PAD", "PAD", "PADV2"),
    shapes.resize: ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
    shapes.blocks: ("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"),
    shapes.repeated: ("BROADCAST_TO", "TILE"),
    shapes.turned: ("REVERSE_V2",),
    shapes.gathered: ("EMBEDDING_LOOKUP", "GATHER"),
    shapes.one_hot: ("ONE_HOT",),
}
_NAMED: dict[str, Rule] = {name: rule for rule, names in GROUPS.items() for name in names}
_FLOATS = {name: _NAMED[name.removeprefix(PREFIX)] for name in OPS if name.startswith(PREFIX)}
RULES: Mapping[str, Rule] = _NAMED | _FLOATS
REASONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND"),
        "it deals out the rows: convert it as a dilated convolution",
    ),
    **dict.fromkeys(
        ("BROADCAST_ARGS", "FILL", "RANGE", "RANK", "SHAPE", "ZEROS_LIKE"), "it tells of the window's shape"
    ),
    "DYNAMIC_UPDATE_SLICE": "it writes into the window at a place of its own",
    "EAR_SCAN_ON": "it keeps states from window to window",
    "EAR_SHIFT": "it is a memory of rows already",
    "GATHER_ND": "it chooses values from all over the window",
    "REVERSE_SEQUENCE": "it turns time around",
    "SVDF": "it keeps rows itself: give it one row a run, without --hop",
}
