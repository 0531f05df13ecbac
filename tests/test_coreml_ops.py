"""Each op of the Core ML export alone: its package, evaluated, is within a step of what LiteRT computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_writer as tw

from quantize.worker import Worker

HERE = Path(__file__).parent
UNARY = ("ABS", "COS", "EXP", "LOGISTIC", "NEG", "RELU", "RELU6", "RSQRT", "SIN", "SQRT", "SQUARE", "TANH")
PAIRS = ("ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "SQUARED_DIFFERENCE", "SUB")
REDUCTIONS = ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM")
POSITIVE = ("RSQRT", "SQRT")
ROWS = (1, 6, 5, 4)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(variables={"PYTHONPATH": f"{HERE}:{HERE.parent}"}) as process:
        yield process


def int8(name: str, shape: tuple[int, ...], scale: float = 0.03, zero: int = 4) -> tw.Value:
    return tw.Value(name, shape, "int8", scale, zero)


def island(op: str, shape: tuple[int, ...], others: list[tw.Value], **options: Any) -> bytes:
    """Return a model of a float op between DEQUANTIZE and QUANTIZE; the output is as large as `shape`."""
    x = int8("x", ROWS, 0.03, -128 if op in POSITIVE else 4)
    real, made = tw.Value("real", ROWS, "float32"), tw.Value("made", shape, "float32")
    y = int8("y", shape)
    nodes = [
        tw.Op("DEQUANTIZE", [x], [real]),
        tw.Op(op, [real, *others], [made], options),
        tw.Op("QUANTIZE", [made], [y]),
    ]
    return tw.model([x], nodes, [], [y])


def single(
    op: str, out: tuple[int, ...], others: list[tw.Value], scale: float = 0.03, **options: Any
) -> bytes:
    """Return a model of one int8 op."""
    x, y = int8("x", ROWS), int8("y", out, scale)
    return tw.model([x], [tw.Op(op, [x, *others], [y], options)], [], [y])


def window(stride: int, padding: str) -> dict[str, Any]:
    size = {
        "filter_height": 3 if padding == "SAME" else 2,
        "filter_width": 2,
        "stride_h": stride,
        "stride_w": stride,
    }
    return {**size, "padding": padding, "fused_activation_function": "NONE"}


def models() -> dict[str, bytes]:
    rng = np.random.default_rng(5)
    reals = tw.constant("c", rng.uniform(0.5, 2, (5, 4)).astype(np.float32), "float32")
    made = {op: island(op, ROWS, []) for op in UNARY}
    made |= {op: island(op, ROWS, [reals]) for op in PAIRS}
    for op in REDUCTIONS:
        axes = tw.constant("axes", [1, -2], "int32")
        made[op] = island(op, (1, 1, 1, 4), [axes], keep_dims=True)
        made[f"{op} flat"] = island(op, (1, 4), [axes], keep_dims=False)
    for kind in ("AVERAGE", "MAX"):
        made[f"{kind} same"] = single(f"{kind}_POOL_2D", (1, 3, 3, 4), [], **window(2, "SAME"))
        made[f"{kind} valid"] = single(f"{kind}_POOL_2D", (1, 5, 4, 4), [], **window(1, "VALID"))
    begin, size = tw.constant("begin", [0, 1, 2, 0], "int32"), tw.constant("size", [1, 3, -1, 2], "int32")
    made["SLICE"] = single("SLICE", (1, 3, 3, 2), [begin, size])
    pads = tw.constant("pads", [[0, 0], [1, 2], [0, 1], [0, 0]], "int32")
    made["PAD"] = single("PAD", (1, 9, 6, 4), [pads])
    turned = tw.constant("perm", [0, 3, 1, 2], "int32")
    made["TRANSPOSE"] = single("TRANSPOSE", (1, 4, 6, 5), [turned])
    made["SOFTMAX"] = island("SOFTMAX", ROWS, [], beta=2.0)
    return made | convolutions(rng) | joined()


def convolutions(rng: np.random.Generator) -> dict[str, bytes]:
    """Return convolutions with dilation, groups and odd padding."""
    made = {}
    for name, op, shape, axis in (
        ("CONV", "CONV_2D", (6, 3, 2, 4), 0),
        ("CONV groups", "CONV_2D", (6, 3, 2, 2), 0),
        ("DEPTHWISE", "DEPTHWISE_CONV_2D", (1, 3, 2, 8), 3),
    ):
        channels = shape[axis]
        scale = np.linspace(0.001, 0.003, channels)
        weights = tw.constant(
            "w", rng.integers(-127, 128, shape), "int8", scale, np.zeros(channels, int), axis
        )
        bias = tw.constant(
            "b", rng.integers(-900, 900, channels), "int32", scale * 0.03, np.zeros(channels, int)
        )
        for padding, stride, dilation, size in (("SAME", 2, 1, (3, 3)), ("VALID", 1, 2, (2, 3))):
            options = {
                "padding": padding,
                "stride_h": stride,
                "stride_w": stride,
                "dilation_h_factor": dilation,
                "dilation_w_factor": dilation,
                "fused_activation_function": "RELU6" if stride == 2 else "RELU_N1_TO_1",
            }
            if op == "DEPTHWISE_CONV_2D":
                options["depth_multiplier"] = 2
            made[f"{name} {padding}"] = single(op, (1, *size, channels), [weights, bias], 0.02, **options)
    return made


def joined() -> dict[str, bytes]:
    """Return a concatenation of what lies in planes and what does not, and a product of matrices."""
    x, pooled, y = int8("x", ROWS), int8("pooled", ROWS), int8("y", (1, 6, 5, 8))
    options = {**window(1, "SAME"), "filter_height": 3, "filter_width": 3}
    join = {"axis": -1, "fused_activation_function": "NONE"}
    nodes = [tw.Op("MAX_POOL_2D", [x], [pooled], options), tw.Op("CONCATENATION", [x, pooled], [y], join)]
    made = {"CONCATENATION": tw.model([x], nodes, [], [y])}
    product = int8("y", (1, 6, 5, 5), 0.05, 1)
    adjoint = {"adj_x": False, "adj_y": True}
    made["BATCH_MATMUL"] = tw.model([x], [tw.Op("BATCH_MATMUL", [x, x], [product], adjoint)], [], [product])
    return made


MODELS = models()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_op(name: str, worker: Worker, tmp_path: Path) -> None:
    model, package = tmp_path / "m.tflite", tmp_path / "m.mlpackage"
    model.write_bytes(MODELS[name])
    np.save(tmp_path / "x.npy", np.random.default_rng(1).integers(-128, 128, ROWS).astype(np.int8))
    facts = {"description": "", "licence": ""}
    given = {"model": str(model), "out": str(package), "name": name, "facts": facts}
    worker.call("kit.coreml.convert", "convert", **given)
    paths = {"model": str(model), "package": str(package), "inputs": str(tmp_path / "x.npy")}
    found = worker.call("coreml_steps", "steps", **paths)
    assert len(found) >= 2 or name in ("TRANSPOSE", "SLICE", "PAD")
    assert max(worst for worst, _ in found) <= 1
    assert found[-1][1] < 0.2


def test_every_op_is_tried() -> None:
    """The ops of the table are those of this file, those of the zoo's bundles, and other names of RESHAPE."""
    import ast

    tree = ast.parse((HERE.parent / "kit" / "coreml" / "ops.py").read_text(encoding="utf-8"))
    table = next(node.value for node in ast.walk(tree) if isinstance(node, ast.AnnAssign))
    assert isinstance(table, ast.Dict)
    known = {key.value for key in table.keys if isinstance(key, ast.Constant)}
    zoo = {"DEQUANTIZE", "EXPAND_DIMS", "FULLY_CONNECTED", "QUANTIZE", "RESHAPE", "SQUEEZE"}
    tried = {*UNARY, *PAIRS, *REDUCTIONS, "AVERAGE_POOL_2D", "MAX_POOL_2D", "SLICE", "PAD", "TRANSPOSE"}
    assert known == tried | zoo | {"SOFTMAX", "CONCATENATION", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D"}
