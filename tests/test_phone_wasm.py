"""The phone's ear in Node: wasm gives the host's bytes and events, and the resampler keeps what it should."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import soxr
from phone_host import offered

from firmware.compiler import compiled, interp
from kit.detect import ONE, USUAL, Event, Limits, Smoother, Trigger
from kit.targets.phone import offer as offers
from kit.targets.phone.offer import Offer
from kit.targets.phone.server import PAGE
from models import frontend
from quantize.bundle import EXPECTED

SCRIPT = Path(__file__).with_name("phone_ear.mjs")
RATE = 16_000
BUNDLES = {"window": ("tiny_transformer-micro-esc10", None), "stream": ("panns-micro-esc10", "100ms")}
Array = npt.NDArray[Any]


def in_node(what: str, folder: Path) -> Any:
    """Return what phone_ear.mjs says of the files in a folder."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    command = ["node", str(SCRIPT), str(PAGE), str(folder), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=BUNDLES)
def offer(request: pytest.FixtureRequest) -> Offer:
    return offered(*BUNDLES[request.param])


def sound(seconds: float) -> npt.NDArray[np.int16]:
    """Return clicks, surf, silence and noise at all levels, which the models take for several classes."""
    rng = np.random.default_rng(5)
    part = round(seconds * RATE / 4)
    clicks = rng.normal(0, 0.5, part) * (np.arange(part) % 8000 < 60)
    surf = 0.3 * scipy.signal.lfilter(*scipy.signal.butter(2, 0.1), rng.normal(0, 1, part))
    noise = rng.normal(0, 1, part) * np.geomspace(1e-5, 2, part)
    whole = np.concatenate([clicks, surf, np.zeros(part), noise])
    return (np.clip(whole, -1, 1) * 32767).astype(np.int16)


def heard(offer: Offer, samples: npt.NDArray[np.int16], folder: Path) -> Any:
    (folder / "model.wasm").write_bytes(offer.module)
    (folder / "model.json").write_text(json.dumps(offer.about))
    (folder / "sound").write_bytes(samples.tobytes())
    return in_node("hear", folder)


def expected(offer: Offer, samples: npt.NDArray[np.int16]) -> list[tuple[int, Array]]:
    """Return sample and output of each result by the integer definition, whole windows for a stream too."""
    fe, about = offer.bundle.frontend, offer.about
    graph, _, _ = compiled.lower(offer.bundle.model(), offer.name, "c")
    into = graph.tensors[graph.inputs[0]]
    assert into.quantisation is not None
    scale, zero = float(into.quantisation.scale[0]), int(into.quantisation.zero_point[0])
    rows = frontend.quantise(frontend.features(samples, fe), scale, zero)
    first = fe.frames if offer.stream is None else -(-fe.frames // about["rows"]) * about["rows"]
    found = []
    for end in range(first, len(rows) + 1, about["hop_frames"]):
        window = rows[end - fe.frames : end].reshape(into.shape)
        found.append((fe.window + (end - 1) * fe.hop, interp.run(graph, [window])[0].ravel()))
    return found


def test_results_and_events_of_the_host(offer: Offer, tmp_path: Path) -> None:
    samples = sound(8)
    told = heard(offer, samples, tmp_path)
    wanted = expected(offer, samples)
    assert told["intact"] == 1
    assert [row["sample"] for row in told["results"]] == [sample for sample, _ in wanted]
    np.testing.assert_array_equal([row["output"] for row in told["results"]], [out for _, out in wanted])
    meant = offers.meaning(offer.bundle, offer.graph, offer.stream)
    limits, events = Limits.of(meant, USUAL), []
    smoother, trigger = Smoother(limits.averaged), Trigger(limits)
    for row, (sample, output) in zip(told["results"], wanted, strict=True):
        best, total = smoother.step(meant.shares(output))
        np.testing.assert_allclose(row["believed"], smoother.sums / (smoother.count * ONE), rtol=1e-12)
        np.testing.assert_allclose(row["values"], (output - np.int64(meant.zero_point)) * meant.scale)
        for kind, event in zip(
            ("ended", "began"), trigger.step(sample, best, total, smoother.count), strict=True
        ):
            if event:
                events.append(plain(kind, event))
    if last := trigger.close():
        events.append(plain("ended", last))
    assert events == told["events"]
    assert len(events) >= 4


def plain(kind: str, event: Event) -> list[Any]:
    return [kind, event.label, event.first, event.last, event.share / ONE]


def test_bands_of_the_host(offer: Offer, tmp_path: Path) -> None:
    samples = sound(4)
    fe = replace(offer.bundle.frontend, kind="logmel", coefficients=0)
    wanted = frontend.features(samples, fe)[-3:]
    np.testing.assert_array_equal(heard(offer, samples, tmp_path)["decibels"], wanted)


def test_expected_inputs_where_there_are_no_clips(offer: Offer) -> None:
    trial = offer.trial
    kept = offer.bundle.arrays(EXPECTED)
    assert not trial.sound
    np.testing.assert_allclose(trial.host, kept["outputs"].reshape(trial.host.shape), atol=8)  # LiteRT's
    given = np.frombuffer(trial.batch(0) or b"", np.int8).reshape(len(kept["inputs"]), -1)
    sizes = kept["inputs"][0].size, int(np.prod(offer.graph.tensors[offer.graph.inputs[0]].shape))
    assert given.shape[1] == -(-sizes[0] // sizes[1]) * sizes[1]  # whole hops, silence first
    np.testing.assert_array_equal(given[:, -sizes[0] :], kept["inputs"].reshape(len(given), -1))
    assert trial.batch(-1) is trial.batch(10**6) is None
    assert "no clips" in trial.notes[0]


def resampled(x: Array, rates: tuple[int, int], blocks: Sequence[int], folder: Path) -> Array:
    """Return int16 that resample.js makes of float samples in blocks, as shares of full scale."""
    (folder / "sound").write_bytes(x.astype(np.float32).tobytes())
    (folder / "rates.json").write_text(json.dumps({"from": rates[0], "to": rates[1], "blocks": blocks}))
    return np.array(in_node("resample", folder)) / 32768


@pytest.mark.parametrize("source", [48_000, 44_100, 16_000, 8_000])
def test_resampling_equals_an_outside_one(source: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    band = scipy.signal.firwin(
        255, 0.7 * min(source, RATE), fs=2 * source
    )  # free of what both filters differ in
    x = 0.2 * scipy.signal.lfilter(band, 1, rng.normal(0, 1, source))
    x *= scipy.signal.windows.tukey(len(x), 0.2)
    ours = resampled(x, (source, RATE), [1024], tmp_path)
    theirs = soxr.resample(x, source, RATE, "VHQ")
    cut = slice(500, len(ours) - 500)
    error = ours[cut] - theirs[: len(ours)][cut]
    assert 10 * np.log10(np.mean(error**2) / np.mean(theirs[cut] ** 2)) < -55


def test_what_would_fold_back_is_gone(tmp_path: Path) -> None:
    t = np.arange(48_000) / 48_000
    low = resampled(0.5 * np.sin(2 * np.pi * 6_000 * t), (48_000, RATE), [1024], tmp_path)[500:-500]
    high = resampled(0.5 * np.sin(2 * np.pi * 9_000 * t), (48_000, RATE), [1024], tmp_path)[500:-500]
    assert np.sqrt(2 * np.mean(low**2)) == pytest.approx(0.5, rel=0.01)
    assert np.sqrt(np.mean(high**2)) < 0.5 * 10 ** (-70 / 20)


def test_blocks_of_any_size_give_the_same_samples(tmp_path: Path) -> None:
    x = np.random.default_rng(2).normal(0, 1.5, 20_000)  # clips at times
    whole = resampled(x, (44_100, RATE), [20_000], tmp_path)
    np.testing.assert_array_equal(whole, resampled(x, (44_100, RATE), [128, 1, 700, 33], tmp_path))
    assert len(whole) == pytest.approx(len(x) * Fraction(RATE, 44_100), abs=30)
    assert whole.max() == 32767 / 32768
    assert whole.min() == -1
