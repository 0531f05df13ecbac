"""The .tflite reader and the passes: right on good files, one clear line on any other."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from firmware.compiler import interp, passes, plan, read_tflite
from firmware.compiler.flatbuffer import BrokenError, Reader
from firmware.compiler.graph import Graph, ModelError
from firmware.compiler.schema import BUILTINS, OPTIONS, TABLES

Q = (0.1, 3)
SECONDS = 5.0  # that a damaged file may take at most; a good one takes hundredths


def dense(x: tfl.Value, units: int, name: str = "y") -> tuple[tfl.Op, tfl.Value]:
    rng = np.random.default_rng(5)
    w = tfl.constant(f"{name}/w", rng.integers(-127, 128, (units, x.shape[-1])), "int8", 0.02)
    b = tfl.constant(f"{name}/b", rng.integers(-99, 99, units), "int32", 0.002)
    y = tfl.Value(name, (1, units), "int8", 0.2, -5)
    return tfl.Op("FULLY_CONNECTED", [x, w, b], [y], {}, 4), y


def small() -> bytes:
    x = tfl.Value("x", (1, 4, 4, 2), "int8", *Q)
    c = tfl.Value("c", (1, 4, 4, 3), "int8", 0.2, -5)
    f = tfl.Value("f", (1, 48), "int8", 0.2, -5)
    w = tfl.constant("w", np.arange(54).reshape(3, 3, 3, 2), "int8", [0.1, 0.2, 0.3])
    conv = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "RELU"}
    last, y = dense(f, 4)
    nodes = [
        tfl.Op("CONV_2D", [x, w], [c], conv, 3),
        tfl.Op("RESHAPE", [c, tfl.constant("s", [1, 48])], [f]),
        last,
    ]
    return tfl.model([x], nodes, [], [y])


def looping() -> bytes:
    """Return a model with a counted loop, its two subgraphs and an initialised variable."""
    x, y, a, b, r = (tfl.Value(n, (1, 4), "int8", *Q) for n in ("x", "y", "a", "b", "r"))
    i, j, end = (tfl.Value(n, (1,), "int32") for n in ("i", "j", "end"))
    more, w = tfl.Value("more", (1,), "bool"), tfl.constant("w", np.arange(16).reshape(4, 4), "int8", 0.1)
    handle = tfl.Value("handle", (1,), "resource")
    held = tfl.Op("VAR_HANDLE", [], [handle], {"container": "", "shared_name": "v"})
    first = tfl.constant("first", np.ones((1, 4)), "int8", *Q)
    parts = [
        tfl.Part([i, a], [tfl.Op("LESS", [i, tfl.constant("k", [3])], [more])], [more]),
        tfl.Part(
            [i, a],
            [
                tfl.Op("ADD", [i, tfl.constant("one", [1])], [j]),
                tfl.Op("FULLY_CONNECTED", [a, w], [b], {}, 4),
            ],
            [j, b],
        ),
        tfl.Part([], [held, tfl.Op("ASSIGN_VARIABLE", [handle, first], [])], []),
    ]
    rounds = {"cond_subgraph_index": 1, "body_subgraph_index": 2}
    nodes = [
        tfl.Op("CALL_ONCE", [], [], {"init_subgraph_index": 3}),
        held,
        tfl.Op("READ_VARIABLE", [handle], [r]),
        tfl.Op("ADD", [x, r], [y]),
        tfl.Op("WHILE", [tfl.constant("zero", [0]), y], [end, tfl.Value("z", (1, 4), "int8", *Q)], rounds),
        tfl.Op("ASSIGN_VARIABLE", [handle, y], []),
    ]
    return tfl.model([x], nodes, [], [nodes[4].outputs[1]], parts)


def survive(data: bytes) -> Graph | None:
    """Return the compiled graph of the bytes, None when they are refused in one line; anything else fails."""
    start = time.perf_counter()
    refusal, graph = "", None
    try:
        graph = passes.run(read_tflite.read(data, "model"))
        plan.plan(graph)
    except ModelError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert (graph is None) == (0 < len(refusal) < 2000)
    assert time.perf_counter() - start < SECONDS
    return graph


@pytest.mark.parametrize("name", ["kws_ref_model", "ad01_int8"])
def test_reads_what_an_outside_reader_reads(shared: Path, name: str) -> None:
    data = (shared / "models" / f"{name}.tflite").read_bytes()
    graph = read_tflite.read(data, name)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    outside = model.subgraphs[0]
    assert len(graph.nodes) == len(outside.operators)
    for node, other in zip(graph.nodes, outside.operators, strict=True):
        code = model.operatorCodes[other.opcodeIndex]
        assert node.op == BUILTINS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        assert node.version == code.version
        assert node.inputs == tuple(other.inputs)
    for tensor, other in zip(graph.tensors, outside.tensors, strict=True):
        assert tensor.name == other.name.decode()[:200]
        assert tensor.shape == tuple(other.shape)
        content = model.buffers[other.buffer].data
        if content is not None:
            assert tensor.data is not None
            assert tensor.data.tobytes() == bytes(content)
        if other.quantization.scale is not None:
            assert tensor.quantisation is not None
            np.testing.assert_array_equal(tensor.quantisation.scale, other.quantization.scale)
            np.testing.assert_array_equal(tensor.quantisation.zero_point, other.quantization.zeroPoint)


def test_option_tables_follow_the_schema() -> None:
    numbers = {
        number: name for name, number in vars(schema.BuiltinOptions).items() if isinstance(number, int)
    }
    for number, fields in OPTIONS.items():
        slots = {int(field.split(":")[0]): field.split(":")[1] for field in fields.split()}
        names = [name for name in vars(getattr(schema, numbers[number] + "T")()) if name != "_"]
        for slot, field in slots.items():
            if number != 15:  # RESIZE_BILINEAR has two removed fields before its first
                assert names[slot].lower() == field.replace("_", ""), numbers[number]
    assert len(BUILTINS) == sum(isinstance(v, int) for v in vars(schema.BuiltinOperator).values())
    for op in TABLES:
        assert op in BUILTINS


@pytest.mark.parametrize("name", ["kws_ref_model", "ad01_int8"])
def test_truncated_at_every_97_bytes(shared: Path, name: str) -> None:
    data = (shared / "models" / f"{name}.tflite").read_bytes()
    step = 97 if len(data) < 100_000 else 97 * 11
    for length in range(0, len(data), step):
        assert survive(data[:length]) is None


@pytest.mark.parametrize("made", [small, looping])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_random_flips(made: Callable[[], bytes], seed: int) -> None:
    data = bytearray(made())
    rng = np.random.default_rng(seed)
    for position in rng.integers(4, len(data), rng.integers(1, 12)):
        data[position] = rng.integers(0, 256)
    survive(bytes(data))


@pytest.mark.parametrize("made", [small, looping])
def test_every_word_replaced_by_extremes(made: Callable[[], bytes]) -> None:
    data = made()
    for position in range(0, len(data) - 4, 4):
        for word in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, len(data)):
            survive(data[:position] + struct.pack("<I", word) + data[position + 4 :])


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_random_bytes(data: bytes) -> None:
    survive(data)
    survive(b"\x14\0\0\0TFL3" + data)


def test_overlapping_vectors_cannot_make_the_work_explode() -> None:
    """A million table entries that all point to one table are more than the file's bytes can mean."""
    reader = Reader(struct.pack("<I", 4) * 250_000)
    for _ in range(16):
        reader.spend(1_000_000)
    with pytest.raises(BrokenError, match="overlap"):
        reader.spend(1_000_000)


def packed(edit: Callable[[Any], None]) -> bytes:
    """Return the looping model after an edit of its object tree."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(looping(), 0))
    edit(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_more_subgraphs_than_any_model_has_are_refused() -> None:
    def many(model: Any) -> None:
        model.subgraphs = [*model.subgraphs, *model.subgraphs[1:] * 30]

    with pytest.raises(ModelError, match="it has 94 subgraphs"):
        read_tflite.read(packed(many), "many")


def test_more_tensors_than_any_model_has_are_refused_soon() -> None:
    """One table named a million times: few bytes, many tensors."""
    data = looping()
    subgraph = Reader(data).root().children(2)[0]
    entry = subgraph.at(0)
    assert entry is not None
    count = 1 << 17
    padding = -len(data) % 4
    start = len(data) + padding
    table = subgraph.children(0)[0].position
    vector = [count, *((table - (start + 4 + 4 * i)) % 2**32 for i in range(count))]
    bomb = bytearray(data + bytes(padding) + struct.pack(f"<{count + 1}I", *vector))
    bomb[entry : entry + 4] = struct.pack("<I", start - entry)
    assert survive(bytes(bomb)) is None


@pytest.mark.parametrize("odd", [0, 1])
def test_int4_weights_are_unpacked(odd: int) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(-8, 8, (3, 4 + odd)).astype(np.int8)
    x, y = tfl.Value("x", (1, 4 + odd), "int8", *Q), tfl.Value("y", (1, 3), "int8", 0.9, -5)
    w = tfl.constant("w", values, "int8", 0.02)
    model = schema.ModelT.InitFromObj(
        schema.Model.GetRootAsModel(
            tfl.model([x], [tfl.Op("FULLY_CONNECTED", [x, w], [y], {}, 4)], [], [y]), 0
        )
    )
    tensor = model.subgraphs[0].tensors[1]
    tensor.type = schema.TensorType.INT4
    flat = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8))
    nibbles = (flat[0::2] & 15) | ((flat[1::2] & 15) << 4)
    model.buffers[tensor.buffer].data = nibbles.astype(np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    graph = read_tflite.read(bytes(builder.Output()), "int4")
    np.testing.assert_array_equal(graph.tensors[1].data, values)
    data = rng.integers(-128, 128, x.shape).astype(np.int8)
    np.testing.assert_array_equal(
        interp.run(passes.run(graph), [data])[0], tfl.invoke(bytes(builder.Output()), data, arena=1 << 18)[0]
    )


def test_a_good_file_still_compiles() -> None:
    graph = survive(small())
    assert graph is not None
    assert [node.op for node in graph.nodes] == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]
    unrolled = survive(looping())
    assert unrolled is not None
    assert [node.op for node in unrolled.nodes] == ["ADD", *["FULLY_CONNECTED"] * 3]


def refused(inputs: list[tfl.Value], nodes: list[tfl.Op], outputs: list[tfl.Value]) -> str:
    with pytest.raises(ModelError) as caught:
        passes.run(read_tflite.read(tfl.model(inputs, nodes, [], outputs), "mine.tflite"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_float_model_gets_the_cure() -> None:
    x, y = tfl.Value("audio", (1, 8), "float32"), tfl.Value("y", (1, 4), "float32")
    w = tfl.constant("w", np.ones((4, 8)), "float32")
    message = refused([x], [tfl.Op("FULLY_CONNECTED", [x, w], [y])], [y])
    assert "float model" in message
    assert "'audio' is float32" in message
    assert "earkit compress" in message


@pytest.mark.parametrize(("dtype", "cure"), [("uint8", "inference_input_type"), ("int64", "ARG_MAX")])
def test_other_ends_get_their_own_cure(dtype: str, cure: str) -> None:
    x, y = tfl.Value("x", (1, 8), dtype), tfl.Value("y", (1, 4), dtype)
    message = refused([x], [tfl.Op("RESHAPE", [x, tfl.constant("s", [1, 8])], [y])], [y])
    assert f"'x' is {dtype}" in message
    assert cure in message


def test_unsupported_op_names_op_tensor_version_and_rewrite() -> None:
    x, y = tfl.Value("x", (1, 8), "int8", *Q), tfl.Value("block/fft", (1, 8), "int8", *Q)
    message = refused([x], [tfl.Op("RFFT2D", [x, tfl.constant("m", [1, 8])], [y], {}, 2)], [y])
    assert all(part in message for part in ("RFFT2D", "version 2", "block/fft", "front end of the board"))


def test_unknown_version_is_refused() -> None:
    x = tfl.Value("x", (1, 8), "int8", *Q)
    node, y = dense(x, 4)
    message = refused([x], [tfl.Op(node.name, node.inputs, node.outputs, {}, 99)], [y])
    assert "version 99" in message


def test_float_borders_are_stripped() -> None:
    raw, x = tfl.Value("raw", (1, 8), "float32"), tfl.Value("x", (1, 8), "int8", *Q)
    node, y = dense(x, 4)
    real = tfl.Value("real", (1, 4), "float32")
    nodes = [tfl.Op("QUANTIZE", [raw], [x]), node, tfl.Op("DEQUANTIZE", [y], [real])]
    graph = passes.run(read_tflite.read(tfl.model([raw], nodes, [], [real]), "m"))
    assert [n.op for n in graph.nodes] == ["FULLY_CONNECTED"]
    assert graph.tensors[graph.inputs[0]].dtype == graph.tensors[graph.outputs[0]].dtype == "int8"


def padded_conv(op: str, value: int, padding: str) -> bytes:
    x = tfl.Value("x", (1, 5, 6, 4), "int8", *Q)
    p = tfl.Value("p", (1, 8, 9, 4), "int8", *Q)
    inputs: list[Any] = [x, tfl.constant("a", [(0, 0), (1, 2), (2, 1), (0, 0)])]
    inputs.append(tfl.Value("v", (1,), "int8", *Q, data=np.array([value], np.int8)))
    out = (1, 4, 5, 4) if padding == "SAME" else (1, 3, 4, 4)
    y = tfl.Value("y", out, "int8", 0.9, -5)
    shape = (4, 3, 3, 4) if op == "CONV_2D" else (1, 3, 3, 4)
    w = tfl.constant("w", np.random.default_rng(1).integers(-127, 128, shape), "int8", 0.02)
    options = {"padding": padding, "stride_w": 2, "stride_h": 2, "fused_activation_function": "NONE"}
    options |= {"depth_multiplier": 1} if op != "CONV_2D" else {}
    return tfl.model([x], [tfl.Op("PADV2", inputs, [p]), tfl.Op(op, [p, w], [y], options, 3)], [], [y])


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize(("value", "folds"), [(3, True), (4, False)])
def test_pad_folds_only_where_exact(op: str, value: int, folds: bool, padding: str) -> None:
    data = padded_conv(op, value, padding)
    graph = passes.run(read_tflite.read(data, "m"))
    assert [node.op for node in graph.nodes] == ([op] if folds else ["PADV2", op])
    x = np.random.default_rng(2).integers(-128, 128, (1, 5, 6, 4)).astype(np.int8)
    np.testing.assert_array_equal(interp.run(graph, [x])[0], tfl.invoke(data, x)[0])


def test_noop_reshapes_go_and_chains_join() -> None:
    x = tfl.Value("x", (1, 8), "int8", *Q)
    a, b, c = (tfl.Value(n, s, "int8", *Q) for n, s in (("a", (2, 4)), ("b", (4, 2)), ("c", (1, 8))))
    nodes = [
        tfl.Op("RESHAPE", [i, tfl.constant(f"s{o.name}", o.shape)], [o]) for i, o in ((x, a), (a, b), (b, c))
    ]
    last, y = dense(c, 4)
    graph = passes.run(read_tflite.read(tfl.model([x], [*nodes, last], [], [y]), "m"))
    assert [node.op for node in graph.nodes] == ["FULLY_CONNECTED"]


def test_nodes_of_constants_are_folded_and_unused_ones_dropped() -> None:
    x = tfl.Value("x", (1, 8), "int8", *Q)
    k = tfl.Value("k", (8,), "int8", *Q, data=np.arange(8, dtype=np.int8))
    r, z = tfl.Value("r", (1, 8), "int8", *Q), tfl.Value("z", (1, 8), "int8", 0.2, 0)
    node, y = dense(x, 4)
    unused, _ = dense(x, 5, "unused")
    nodes = [tfl.Op("RESHAPE", [k, tfl.constant("s", [1, 8])], [r]), tfl.Op("ADD", [x, r], [z]), unused, node]
    graph = passes.run(read_tflite.read(tfl.model([x], nodes, [], [y, z]), "m"))
    assert [n.op for n in graph.nodes] == ["ADD", "FULLY_CONNECTED"]
