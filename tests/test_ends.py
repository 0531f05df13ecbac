"""Models with several inputs and outputs, of any type: interpreter, C, header, and the road over a board."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import test_states
import tflite_writer as tfl
from conftest import VIRTUAL, earkit

from firmware.compiler import build, emit, ends, interp, passes, read_tflite
from firmware.compiler.graph import Array, Graph, ModelError
from firmware.compiler.plan import plan

Capture = pytest.CaptureFixture[str]
Q = (0.1, 3)
ROWS = 4


def mixed() -> bytes:
    """Five inputs of five types; eight outputs, some of them an input reshaped, or one value twice."""
    a, b = tfl.Value("a", (1, 6), "int8", *Q), tfl.Value("b", (1, 6), "int8", 0.2, -5)
    real = tfl.Value("real", (1, 6), "float32")
    flag, number = tfl.Value("flag", (2,), "bool"), tfl.Value("number", (1, 3), "int32")
    total, product = tfl.Value("sum", (1, 6), "int8", 0.3, 1), tfl.Value("product", (1, 6), "int8", 0.4, 2)
    coarse, fine = tfl.Value("coarse", (1, 6), "int8", 0.5, 0), tfl.Value("fine", (1, 6), "int8", 0.01, 0)
    back, again = tfl.Value("back", (1, 6), "float32"), tfl.Value("again", (1, 6), "int8", 0.23, 0)
    best = tfl.Value("best", (1,), "int32")
    flags, numbers = tfl.Value("flags", (1, 2), "bool"), tfl.Value("numbers", (3,), "int32")
    nodes = [
        tfl.Op("ADD", [a, b], [total]),
        tfl.Op("MUL", [a, b], [product]),
        tfl.Op("QUANTIZE", [real], [coarse]),
        tfl.Op("QUANTIZE", [real], [fine]),
        tfl.Op("DEQUANTIZE", [coarse], [back]),
        tfl.Op("QUANTIZE", [back], [again]),
        tfl.Op("ARG_MAX", [total, tfl.constant("axis", [1])], [best], {"output_type": 2}),
        tfl.Op("RESHAPE", [flag, tfl.constant("pair", [1, 2])], [flags]),
        tfl.Op("RESHAPE", [number, tfl.constant("three", [3])], [numbers]),
    ]
    return tfl.model(
        [a, real, b, flag, number], nodes, [], [total, back, product, best, again, fine, flags, numbers]
    )


def graph_of(model: bytes, name: str = "ends") -> Graph:
    return passes.run(read_tflite.read(model, name))


def inputs_of(graph: Graph, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    made = []
    for value in (graph.tensors[i] for i in graph.inputs):
        if value.dtype == "float32":
            made.append(rng.normal(0, 8, value.shape).astype(np.float32))
        elif value.dtype == "bool":
            made.append(rng.integers(0, 2, value.shape).astype(bool))
        else:
            made.append(rng.integers(-128, 128, value.shape).astype(value.dtype))
    return made


def test_interpreter_and_c_agree_with_tflm(tmp_path: Path) -> None:
    graph = graph_of(mixed())
    model = build.host_library(graph, plan(graph), tmp_path)
    for seed in range(ROWS):
        inputs = inputs_of(graph, seed)
        wanted = tfl.invoke(mixed(), *inputs, arena=1 << 18)
        for made in (interp.run(graph, inputs), model(inputs)):
            for one, other, index in zip(made, wanted, graph.outputs, strict=True):
                assert str(one.dtype) == graph.tensors[index].dtype
                np.testing.assert_array_equal(one, other, err_msg=graph.tensors[index].name)


def test_the_c_refuses_other_inputs(tmp_path: Path) -> None:
    graph = graph_of(mixed())
    model = build.host_library(graph, plan(graph), tmp_path)
    inputs = inputs_of(graph, 0)
    with pytest.raises(ModelError, match="takes 5 inputs, got 4"):
        model(inputs[1:])
    with pytest.raises(ModelError, match="'a' is int8"):
        model([inputs[0].astype(np.int16), *inputs[1:]])


def test_header_numbers_what_there_is_several_of() -> None:
    graph = graph_of(mixed())
    text = emit.header(graph, plan(graph))
    defines = dict(re.findall(r"#define (EAR_\w+) (\S+)", text))
    assert (defines["EAR_INPUTS"], defines["EAR_OUTPUTS"]) == ("5", "8")
    assert defines["EAR_INPUT_BYTES"] == str(6 + 24 + 6 + 2 + 12)
    assert float(defines["EAR_INPUT_2_SCALE"].rstrip("f")) == pytest.approx(0.2)
    assert defines["EAR_INPUT_2_ZERO_POINT"] == "(-5)"
    assert "EAR_INPUT_1_SCALE" not in defines
    assert "extern float *const ear_input_1; /* real (1, 6)" in text
    assert "extern int32_t *const ear_output_3; /* best (1,)" in text


def test_a_front_end_needs_one_int8_input_and_output() -> None:
    graph = graph_of(mixed())
    with pytest.raises(
        ModelError, match="a front end needs one int8 input and one int8 output, not 'a' int8"
    ):
        emit.header(graph, plan(graph), "", {})


def test_a_constant_output_is_refused() -> None:
    x, y, k = (tfl.Value(n, (1, 4), "int8", *Q) for n in "xyk")
    known = tfl.Value("k", (1, 4), "int8", *Q, data=np.zeros((1, 4), np.int8))
    assert k.shape == known.shape
    with pytest.raises(ModelError, match="output 'k' is a constant: leave it out"):
        graph_of(tfl.model([x], [tfl.Op("RELU", [x], [y])], [known], [y, known]))


def save(folder: Path, arrays: list[list[Array]]) -> list[str]:
    """Save a batch of each input, one row after the other, and return the paths."""
    paths = []
    for position in range(len(arrays[0])):
        paths.append(str(folder / f"in{position}.npy"))
        rows = [row[position] for row in arrays]
        np.save(paths[-1], np.concatenate(rows) if rows[0].shape[0] == 1 else np.stack(rows))
    return paths


@pytest.mark.parametrize("board", VIRTUAL)
def test_every_board_takes_and_gives_them_all(board: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "m.tflite").write_bytes(mixed())
    graph = graph_of(mixed())
    code, out, err = earkit(
        capsys, "compile", tmp_path / "m.tflite", "--board", board, "-o", tmp_path / "b", "--json"
    )
    assert (code, err) == (0, [])
    sizes = json.loads(out)
    assert [end["name"] for end in sizes["inputs"]] == ["a", "real", "b", "flag", "number"]
    assert sizes["outputs"][1]["dtype"] == "float32"
    assert sizes["outputs"] == ends.records(graph, graph.outputs)
    rows = [inputs_of(graph, seed) for seed in range(ROWS)]
    targets = [str(tmp_path / f"out{i}.npy") for i in range(len(graph.outputs))]
    code, out, err = earkit(
        capsys, "run", tmp_path / "b", "--input", *save(tmp_path, rows), "--output", *targets, "--json"
    )
    assert (code, err) == (0, [])
    assert [one["output"] for one in json.loads(out)["outputs"]] == targets
    for number, row in enumerate(rows):
        for target, wanted in zip(targets, tfl.invoke(mixed(), *row, arena=1 << 18), strict=True):
            made = np.load(target)[number]
            np.testing.assert_array_equal(made.reshape(wanted.shape), wanted)


@pytest.fixture(scope="module")
def delay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a build of a model with states."""
    folder = tmp_path_factory.mktemp("delay")
    (folder / "delay.tflite").write_bytes(test_states.MODELS["shift register"])
    from kit import pipeline

    pipeline.compile(folder / "delay.tflite", "virtual-m4", folder / "b")
    return folder / "b"


def test_rows_of_a_model_with_states_are_steps_and_each_run_begins_anew(
    delay: Path, tmp_path: Path, capsys: Capture
) -> None:
    graph = graph_of(test_states.MODELS["shift register"])
    runs = test_states.inputs_of(graph)
    wanted = np.concatenate([made for (made,) in test_states.our_runs(graph, runs)])
    np.save(tmp_path / "x.npy", np.concatenate([x for (x,) in runs]))
    for _ in range(2):
        arguments = ("--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
        assert earkit(capsys, "run", delay, *arguments)[0] == 0
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), wanted)


def test_profile_of_a_model_with_states_agrees_with_the_host(
    delay: Path, tmp_path: Path, capsys: Capture
) -> None:
    code, out, err = earkit(capsys, "profile", delay, "--samples", "6", "-o", tmp_path / "run", "--json")
    assert (code, err) == (0, []), err
    record = json.loads(out)
    assert (record["mismatches"], record["samples"]) == (0, 6)


def test_profile_of_several_ends_agrees_with_the_host(several: Path, tmp_path: Path, capsys: Capture) -> None:
    code, out, err = earkit(
        capsys, "profile", several / "build", "--samples", "6", "-o", tmp_path / "run", "--json"
    )
    assert (code, err) == (0, []), err
    record = json.loads(out)
    assert (record["mismatches"], record["samples"]) == (0, 6)


WRONG = {
    "too few inputs": (["x"], ["y"], "has 5 inputs ('a' int8 (1, 6), 'real' float32 (1, 6)"),
    "too few outputs": (["a", "real", "b", "flag", "number"], ["y"], "has 8 outputs"),
    "another type": (["b", "a", "b", "flag", "number"], list("12345678"), "a.npy: is int8, needs float32"),
    "rows": (["two", "real", "b", "flag", "number"], list("12345678"), "different numbers of rows"),
    "one file": (
        ["a", "real", "b", "flag", "number"],
        list("11345678"),
        "two outputs would go into one file",
    ),
}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a build of the model with many ends, and inputs for it, in one folder."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "m.tflite").write_bytes(mixed())
    from kit import pipeline

    pipeline.compile(folder / "m.tflite", "virtual-m4", folder / "build")
    graph = graph_of(mixed())
    for index, array in zip(graph.inputs, inputs_of(graph, 1), strict=True):
        np.save(folder / f"{graph.tensors[index].name}.npy", array)
    np.save(folder / "two.npy", np.zeros((2, 6), np.int8))
    np.save(folder / "x.npy", np.zeros((1, 6), np.int8))
    return folder


@pytest.mark.parametrize(("given", "made", "text"), WRONG.values(), ids=WRONG)
def test_wrong_files_are_one_line(
    given: list[str],
    made: list[str],
    text: str,
    several: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(several)
    inputs, outputs = ([f"{name}.npy" for name in names] for names in (given, made))
    code, _, err = earkit(capsys, "run", "build", "--input", *inputs, "--output", *outputs)
    assert (code, len(err)) == (1, 1)
    assert text in err[0]
