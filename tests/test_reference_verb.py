"""`earkit reference`: official weights hear clips, sound files and arrays; what does not fit is one line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import official_golden
import pytest
import soundfile
from conftest import earkit
from safetensors.numpy import save_file

from models import fronts, official, tera, train
from models.blocks.attention import Layer

RATE = 16_000
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make TERA as small as its golden; inputs of at most half a second."""
    encoder = replace(tera.FULL.encoder, width=24, layers=(Layer(3, 8, 32),) * 2)
    config = replace(tera.FULL, encoder=encoder, seconds=0.5)
    monkeypatch.setitem(tera.SIZES, "full", config)
    return config


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    state, _ = official_golden.read("tera")
    path = tmp_path / "tera.safetensors"
    save_file(dict(state), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder for each of two classes, with clips of 0.3 and of 1.2 s."""
    rng = np.random.default_rng(0)
    for number, seconds in enumerate((0.3, 1.2, 0.3, 1.2)):
        folder = tmp_path / "data" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        sound = 0.1 * rng.normal(size=round(seconds * RATE))
        soundfile.write(folder / f"clip{number}.wav", sound, RATE, "PCM_16")
    return tmp_path / "data"


def by_hand(config: Any, weights: Path, sound: np.ndarray) -> Any:
    """Return the embedding of one waveform, without the verb."""
    import keras

    from models import weight_files

    net = tera.net(config, 2)
    official.load(net, weight_files.read(weights).arrays, tera.official(config))
    embedding = keras.Model(net.input, net.get_layer("embedding").output)
    return train.predict(embedding, fronts.features(sound, tera.frontend(config))[None])[0]


def test_a_data_set_becomes_a_teacher(small: Any, weights: Path, data: Path, capsys: Capture) -> None:
    out = weights.with_name("teacher.npz")
    code, said, _ = earkit(capsys, "reference", "tera", data, "--weights", weights, "-o", out, "--json")
    assert code == 0
    record = json.loads(said)
    with np.load(out, allow_pickle=False) as file:
        arrays = dict(file)
    assert set(arrays) == {"names", "embedding", "record"}  # the official file has no classifier
    assert arrays["embedding"].shape == (4, 24)
    assert sorted(arrays["names"]) == [f"class{n % 2}/clip{n}.wav" for n in (0, 2, 1, 3)]
    assert record["windows"] > record["inputs"] == 4  # clips longer than an input have several
    assert record["window_seconds"] == 0.5
    assert record["origin"] == "measured"
    assert record["windows_per_second"] > 0
    assert record["memory"]["host_bytes"] > 1 << 20
    assert "CPU" in record["device"] or record["memory"]["gpu_bytes"] > 0
    assert record["dtype"] == "float32"
    assert "keras" in record["backend"]
    assert record["model_bytes"] == 4 * record["parameters"] > 4000
    latency = record["latency"]
    assert 0 < latency["min"] <= latency["median"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert latency["count"] >= 5
    stored = json.loads(str(arrays["record"]))
    assert {key: record[key] for key in stored} == stored


def test_a_sound_file_gives_what_the_net_gives(
    small: Any, weights: Path, data: Path, capsys: Capture
) -> None:
    clip, out = data / "class0" / "clip0.wav", weights.with_name("one.npz")
    argv = ("reference", "tera", "--weights", weights, "--input", clip, clip, "-o", out, "--frames")
    code, said, _ = earkit(capsys, *argv)
    assert code == 0
    assert "Apache-2.0" in said
    samples, _ = soundfile.read(clip, dtype="int16")
    with np.load(out, allow_pickle=False) as file:
        assert list(file["names"]) == ["clip0.wav", "clip0.wav"]
        wanted = by_hand(replace(small, seconds=0.3), weights, samples)
        np.testing.assert_allclose(file["embedding"], [wanted, wanted], atol=1e-5)
        assert file["frames"].shape == (2, 31, 24)
        np.testing.assert_allclose(file["frames"].mean(axis=1), file["embedding"], atol=1e-5)
        np.testing.assert_array_equal(file["frames_of"], [0, 1])


def test_arrays_are_features_or_waveforms(small: Any, weights: Path, tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    _, golden = official_golden.read("tera")
    np.save(tmp_path / "x.npy", golden["x"])
    np.save(tmp_path / "wave.npy", 0.1 * rng.normal(size=(3, 4000)).astype(np.float32))
    outs = [tmp_path / "x.npz", tmp_path / "wave.npz"]
    for out in outs:
        source = out.with_suffix(".npy")
        argv = (
            "reference",
            "tera",
            "--weights",
            weights,
            "--input",
            source,
            "-o",
            out,
            "--batch",
            "2",
            "--json",
        )
        code, said, errors = earkit(capsys, *argv)
        assert (code, errors) == (0, [])
    with np.load(outs[0], allow_pickle=False) as file:
        np.testing.assert_allclose(file["embedding"], golden["frames"].mean(axis=1), atol=1e-4)
        assert list(file["names"]) == [f"x.npy:{i}" for i in range(len(golden["x"]))]
    with np.load(outs[1], allow_pickle=False) as file:
        assert file["embedding"].shape == (3, 24)
    assert json.loads(said)["window_seconds"] == 0.25


def test_a_model_file_hears_waveforms(tmp_path: Path, data: Path, capsys: Capture) -> None:
    import keras

    x = keras.Input((4000,))
    mean = keras.ops.mean(keras.ops.abs(x), axis=1, keepdims=True)
    keras.Model(x, keras.ops.concatenate([mean, -mean], axis=1)).save(tmp_path / "own.keras")
    out = tmp_path / "own.npz"
    code, _, _ = earkit(capsys, "reference", tmp_path / "own.keras", data, "--rate", "8000", "-o", out)
    assert code == 0
    with np.load(out, allow_pickle=False) as file:
        assert file["logits"].shape == (4, 2)
        assert (file["logits"][:, 0] > 0).all()
        np.testing.assert_array_equal(file["logits"][:, 0], -file["logits"][:, 1])


def spoilt(weights: Path, change: Any) -> Path:
    state = {key: value.copy() for key, value in official_golden.read("tera")[0].items()}
    change(state)
    save_file(state, weights)
    return weights


def test_checkpoints_that_do_not_fit_are_named(weights: Path, data: Path, capsys: Capture) -> None:
    def said(*argv: Any) -> str:
        code, _, errors = earkit(capsys, "reference", *argv, data, "-o", weights.with_name("out.npz"))
        (line,) = errors[-1:] if code == 1 else errors
        assert code == 1
        return line

    bias = "Transformer.encoder.layer.1.output.dense.bias"
    spoilt(weights, lambda state: state.update({"extra.bias": state.pop(bias)}))
    assert f"the checkpoint has no {bias} (layer2_down/bias); nearest: " in said("tera", "--weights", weights)
    spoilt(weights, lambda state: state.update({bias + "es": state[bias]}))
    line = said("tera", "--weights", weights)
    assert (
        f"has 1 arrays that tera has no place for, the first is {bias}es (24,); nearest that it has: {bias}"
        in line
    )
    spoilt(weights, lambda state: state.update({bias: np.full(24, np.nan, np.float32)}))
    assert "24 values that are NaN or infinite in float32: the checkpoint is damaged" in said(
        "tera", "--weights", weights
    )
    spoilt(weights, lambda _state: None)
    assert said("panns", "--weights", weights).endswith("this looks like a checkpoint of tera")
    assert "no official code, so nobody has a checkpoint" in said("tiny_transformer", "--weights", weights)
    assert "needs --weights FILE; official ones: Hugging Face s3prl/tera" in said("tera")
    assert "no size 'ful' of tera" in said("tera", "--size", "ful", "--weights", weights)
    assert "published no size that has bn0" in said("tera", "--size", "micro", "--weights", weights)
    assert not weights.with_name("out.npz").exists()


def test_inputs_that_do_not_fit_are_named(weights: Path, tmp_path: Path, capsys: Capture) -> None:
    def said(x: Any, *more: Any) -> str:
        np.save(tmp_path / "x.npy", x)
        argv = ("reference", "tera", "--weights", weights, "--input", tmp_path / "x.npy", *more)
        code, _, (line,) = earkit(capsys, *argv, "-o", tmp_path / "out.npz")
        assert code == 1
        return line

    good = np.zeros((2, 9, 80), np.float32)
    damaged = good.copy()
    damaged[1, 4:6, 7] = np.nan
    assert "2 values are NaN or infinite, the first at (1, 4, 7)" in said(damaged)
    assert "x.npy:0: is (9, 81), tera full takes (9, 80)" in said(np.zeros((1, 9, 81)))
    assert "has 4 axes" in said(np.zeros((1, 1, 9, 80)))
    assert "waveforms are int16, or floats of ±1.0" in said(np.full((1, 5000), 3e4))
    assert "float32 features or waveforms are needed" in said(np.array(["a"]))
    np.save(tmp_path / "wave.npy", np.zeros(4000))
    assert "inputs of different lengths" in said(good, tmp_path / "wave.npy")


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (0.0, "the file holds no samples"),
        (0.0001, "give 513 or more"),
        (
            0.08,
            "panns cnn6 cannot hear 0.08 s, its layers would have less than one frame: .* --seconds up to 10",
        ),
    ],
)
def test_clips_shorter_than_the_net_are_named(
    seconds: float, message: str, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    clip, out = tmp_path / "short.wav", tmp_path / "out.npz"
    soundfile.write(clip, np.zeros(round(seconds * RATE)), RATE, "PCM_16")
    argv = ("reference", "panns", "--size", "cnn6", "--weights", weights, "--input", clip, "-o", out)
    code, _, (line,) = earkit(capsys, *argv)
    assert code == 1
    assert re.search(message, line)
    assert not out.exists()
