"""The front end: numpy against librosa's definition in scipy, C against numpy on every core, bad values."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
import scipy.signal
from frontend_c import CPU_MODELS, SHORT_MULTIPLY, Emulated, on_host, on_m55
from hypothesis import given, settings
from hypothesis import strategies as st

from boards.errors import UserError
from firmware.compiler import frontend_emit
from models import frontend
from models.frontend import FrontEnd

Samples = npt.NDArray[np.int16]

CONFIGS = {
    "default": FrontEnd(),
    "mfcc": FrontEnd(kind="mfcc", coefficients=13),
    "digits": FrontEnd(
        "mfcc", 8_000, 200, 80, 256, bands=32, low_hz=0, high_hz=4_000, scale="htk", coefficients=32
    ),
    "panns": FrontEnd(sample_rate=32_000, window=1024, hop=320, fft=1024, bands=64, high_hz=14_000),
    "largest": FrontEnd(window=4_095, hop=1_000, fft=4_096, bands=128, low_hz=0, high_hz=8_000),
    "smallest": FrontEnd(window=15, hop=7, fft=16, bands=1, low_hz=0, high_hz=8_000),
    "one coefficient": FrontEnd(
        "mfcc", window=32, hop=32, fft=32, bands=1, low_hz=0, high_hz=8_000, coefficients=1
    ),
}

# Why these tolerances (dB, and units of a cepstral coefficient):
# - the logarithm's table is off by 3.3e-5 dB; the FFT's rounding is about 2**-29 of the frame's largest
#   sample: 0.005 dB in a band 80 dB under what a tone as loud as that sample would give it, and tenfold for
#   every 20 dB more;
# - a mel weight is rounded to 2**-16: 0.02 dB in a narrow band that hears a far stronger bin by its edge;
# - a band below -95 dB is next to the floor of -100 dB, where rounding decides what is cut;
# - the DCT has 16-bit weights: 2**-18 of about 100 dB in each of 40 bands, beside the errors of the bands.
NEAR_DB, NEAR, MIDDLE_DB, MIDDLE, CEPSTRAL = 80.0, 0.03, 100.0, 0.1, 0.1


def librosa_mel(fe: FrontEnd) -> npt.NDArray[np.float64]:
    """librosa.filters.mel(sr, n_fft, n_mels, fmin, fmax, htk, norm) by its documentation: (bands, bins)."""
    if fe.scale == "htk":
        low, high = (2595 * np.log10(1 + hz / 700) for hz in (fe.low_hz, fe.high_hz))
        hz = 700 * (10 ** (np.linspace(low, high, fe.bands + 2) / 2595) - 1)
    else:
        step = np.log(6.4) / 27
        low, high = (
            hz / (200 / 3) if hz < 1000 else 15 + np.log(hz / 1000) / step for hz in (fe.low_hz, fe.high_hz)
        )
        mels = np.linspace(low, high, fe.bands + 2)
        hz = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    ramps = hz[:, None] - np.fft.rfftfreq(fe.fft, 1 / fe.sample_rate)
    width = np.diff(hz)[:, None]
    weights = np.maximum(0, np.minimum(-ramps[:-2] / width[:-1], ramps[2:] / width[1:]))
    return weights * (2 / (hz[2:] - hz[:-2]))[:, None] if fe.scale == "slaney" else weights


def power_spectrum(samples: Samples, fe: FrontEnd) -> npt.NDArray[np.float64]:
    """The square of librosa.stft(center=False), (frames, bins)."""
    count = 1 + (len(samples) - fe.window) // fe.hop
    framed = np.stack([samples[i * fe.hop : i * fe.hop + fe.window] for i in range(count)]) / 32768
    hann = scipy.signal.get_window("hann", fe.window, fftbins=True)
    return np.asarray(np.abs(scipy.fft.rfft(framed * hann, fe.fft)) ** 2)


def librosa_features(samples: Samples, fe: FrontEnd) -> npt.NDArray[np.float64]:
    """librosa: melspectrogram(center=False, power=2), power_to_db(top_db=None), dct(type=2, norm="ortho")."""
    decibels = 10 * np.log10(np.maximum(power_spectrum(samples, fe) @ librosa_mel(fe).T, 1e-10))
    if fe.kind == "logmel":
        return decibels
    return np.asarray(scipy.fft.dct(decibels, type=2, norm="ortho", axis=1))[:, : fe.coefficients]


def depths(samples: Samples, fe: FrontEnd) -> npt.NDArray[np.float64]:
    """How many dB each band is below what a tone as loud as the frame's largest sample would give it."""
    framed = np.lib.stride_tricks.sliding_window_view(samples, fe.window)[:: fe.hop] / 32768
    tone = (np.abs(framed).max(axis=1, keepdims=True) * fe.window / 4) ** 2 * librosa_mel(fe).max(axis=1)
    energy = power_spectrum(samples, fe) @ librosa_mel(fe).T
    return np.asarray(10 * np.log10(np.maximum(tone, 1e-10) / np.maximum(energy, 1e-10)))


def assert_agrees(samples: Samples, fe: FrontEnd) -> None:
    """Hold the integer front end to the tolerances above; both kinds from the same bands."""
    mel = replace(fe, kind="logmel", coefficients=0)
    want, got = librosa_features(samples, mel), frontend.to_float(frontend.features(samples, mel))
    assert got.shape == want.shape
    error, depth = np.abs(got - want), depths(samples, mel)
    heard = want > -95
    assert error[heard & (depth <= NEAR_DB)].max(initial=0) <= NEAR
    assert error[heard & (depth <= MIDDLE_DB)].max(initial=0) <= MIDDLE
    assert (got >= -100.001).all()
    assert (got[want <= -100] <= -95).all()
    if fe.kind == "mfcc" and not (heard & (depth > MIDDLE_DB)).any() and heard.all():
        error = np.abs(frontend.to_float(frontend.features(samples, fe)) - librosa_features(samples, fe))
        assert error.max(initial=0) <= CEPSTRAL


def synthetic(name: str, n: int) -> Samples:
    rng, t = np.random.default_rng(7), np.arange(n)
    sounds = {
        "silence": np.zeros(n),
        "square": np.where(t // 37 % 2, 32_767, -32_768),
        "alternating": np.where(t % 2, 32_767, -32_768),
        "impulses": (t % 769 == 0) * 32_767,
        "one impulse": (t == n // 2) * 1,
        "dc": np.full(n, 12_345),
        "lowest": np.full(n, -32_768),
        "one bit": rng.integers(-1, 2, n),
        "noise": rng.integers(-32_768, 32_768, n),
        "tone": 30_000 * np.sin(0.3 * t),
        "chirp": 3_000 * np.sin(1e-5 * t * t),
    }
    return np.asarray(sounds[name]).astype(np.int16)


SOUNDS = (
    "silence",
    "square",
    "alternating",
    "impulses",
    "one impulse",
    "dc",
    "lowest",
    "one bit",
    "noise",
    "tone",
    "chirp",
)


@pytest.mark.parametrize("fe", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("name", SOUNDS)
def test_synthetic_sounds_agree_with_librosa(name: str, fe: FrontEnd) -> None:
    assert_agrees(synthetic(name, 4 * fe.window + 5 * fe.hop), fe)


@pytest.fixture(scope="module")
def clips(shared: Path) -> list[Samples]:
    """Real clips as they are stored: 16 bits count, their rate does not."""
    import soundfile

    paths = [
        *sorted(shared.glob("data/fsdd/recordings/*.wav"))[::170],
        *sorted(shared.glob("data/esc10/audio/*.ogg"))[::21],
    ]
    if not paths:
        pytest.skip(f"no clips under {shared}/data")
    read = (soundfile.read(path, frames=3 * 16_000, dtype="int16", always_2d=True)[0][:, 0] for path in paths)
    return [samples for samples in read if samples.size >= 1_024]


@pytest.mark.parametrize("name", ["default", "mfcc", "panns", "digits"])
def test_real_clips_agree_with_librosa(name: str, clips: list[Samples]) -> None:
    for samples in clips:
        assert_agrees(samples, CONFIGS[name])


def test_keras_layer_agrees_on_real_clips(clips: list[Samples]) -> None:
    keras = pytest.importorskip("keras")
    from models.frontend_layer import FrontEndLayer

    for fe in (CONFIGS["default"], CONFIGS["mfcc"]):
        layer = FrontEndLayer(fe)
        for samples in clips[::3]:
            waveform = (samples[None] / 32768).astype(np.float32)
            ours = frontend.to_float(frontend.features(samples, fe))
            theirs = keras.ops.convert_to_numpy(layer(waveform))[0]
            # float32: 2**-24 of the frame's amplitude is 0.05 dB in a band 100 dB below it.
            mel = librosa_features(samples, replace(fe, kind="logmel", coefficients=0))
            good = (mel > -95) & (depths(samples, fe) <= NEAR_DB)
            error = np.abs(ours - theirs)
            assert (error[good] if fe.kind == "logmel" else error[good.all(axis=1)]).max(initial=0) <= MIDDLE


def test_keras_layer_survives_saving(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    from models.frontend_layer import FrontEndLayer

    fe = replace(CONFIGS["mfcc"], frames=5)
    waveform = keras.Input((fe.samples,))
    net = keras.Model(waveform, FrontEndLayer(fe)(waveform))
    assert net.output_shape == (None, 5, 13)
    net.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    x = (synthetic("noise", fe.samples)[None] / 32768).astype(np.float32)
    assert np.array_equal(again(x), net(x))


def hard_frames(window: int, count: int) -> Samples:
    """Frames of every loudness and shape: noise of 1 to 16 bits, extremes, lone impulses, silences."""
    rng = np.random.default_rng(11)
    noise = rng.integers(-32_768, 32_768, (count, window)) >> rng.integers(0, 16, (count, 1))
    extremes = rng.choice([-32_768, 32_767], (count // 4, window))
    impulses = np.zeros((count // 4, window), np.int64)
    impulses[np.arange(len(impulses)), rng.integers(0, window, len(impulses))] = rng.integers(
        -32_768, 32_768, len(impulses)
    )
    tones = 32_767 * np.sin(
        rng.uniform(0, np.pi, (count // 4, 1)) * np.arange(window) + rng.uniform(0, 7, (count // 4, 1))
    )
    constant = np.array([-32_768, -1, 0, 1, 16_384, 32_767])[:, None] * np.ones(window)
    return np.concatenate([noise, extremes, impulses, tones, constant]).astype(np.int16)


def host_frames(frames: Samples, fe: FrontEnd, scale: float, zero_point: int) -> npt.NDArray[np.int8]:
    touching = replace(fe, hop=fe.window)
    return frontend.quantise(frontend.features(frames.ravel(), touching), scale, zero_point)


@pytest.mark.parametrize(
    ("name", "before"),
    [*((name, "") for name in CONFIGS), ("default", SHORT_MULTIPLY), ("largest", SHORT_MULTIPLY)],
)
def test_c_is_numpy_bit_for_bit(name: str, before: str, tmp_path: Path) -> None:
    fe = CONFIGS[name]
    frames = hard_frames(fe.window, 1_000 if fe.fft < 2_000 else 100)
    scale = 0.01 if fe.window % 2 else 0.625  # the small one shows the lowest bits, and saturates
    want = host_frames(frames, fe, scale, -7)
    assert np.array_equal(on_host(tmp_path, fe, frames, scale, -7, before), want)


# Budgets of a 512-point frame of 13 MFCC; a Cortex-M0+ has no long multiply.
INSTRUCTIONS = {
    ("zig", False): 60_000,
    ("zig", True): 220_000,
    ("gcc", False): 66_000,
    ("gcc", True): 265_000,
}


@pytest.mark.parametrize(
    ("core", "by"), [*((core, "zig") for core in CPU_MODELS), ("cortex-m0plus", "gcc"), ("cortex-m4", "gcc")]
)
def test_every_core_gives_the_same_bits_within_its_budget(core: str, by: Any, tmp_path: Path) -> None:
    if by == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc: apt install gcc-arm-none-eabi")
    fe = CONFIGS["mfcc"]
    machine = Emulated(tmp_path, core, fe, 0.625, 3, by)
    frames = hard_frames(fe.window, 8)[::3]
    got = [machine.frame(frame) for frame in frames]
    assert np.array_equal([row for row, _ in got], host_frames(frames, fe, 0.625, 3))
    assert max(count for _, count in got) <= INSTRUCTIONS[by, core == "cortex-m0plus"]
    assert machine.code_bytes <= 12_288


def test_vector_instructions_give_the_same_bits(tmp_path: Path) -> None:
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("no qemu-system-arm: apt install qemu-system-arm")
    fe = CONFIGS["mfcc"]
    frames = hard_frames(fe.window, 8)
    assert np.array_equal(on_m55(tmp_path, fe, frames, 0.625, 3), host_frames(frames, fe, 0.625, 3))


def test_five_seconds_take_less_than_50_ms() -> None:
    samples = synthetic("noise", 80_000)
    frontend.features(samples, FrontEnd())

    def seconds() -> float:
        start = time.process_time()
        frontend.features(samples, FrontEnd())
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 0.05


def test_frames_do_not_depend_on_their_neighbours() -> None:
    fe, samples = FrontEnd(), synthetic("noise", 60_000)
    whole = frontend.features(samples, fe)
    assert whole.shape == (1 + (60_000 - 512) // 320, 40)
    assert whole.dtype == np.int32
    for i in (0, 1, 127, 128, len(whole) - 1):
        assert np.array_equal(frontend.features(samples[i * 320 : i * 320 + 512], fe)[0], whole[i])


def test_less_than_a_window_gives_no_frame() -> None:
    assert frontend.features(np.zeros(511, np.int16), FrontEnd()).shape == (0, 40)


@pytest.mark.parametrize("samples", [np.zeros(600), np.zeros((2, 600), np.int16)], ids=["float", "stereo"])
def test_other_arrays_are_refused(samples: npt.NDArray[np.generic]) -> None:
    with pytest.raises(TypeError, match="int16 samples of shape"):
        frontend.features(samples, FrontEnd())  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), st.floats(2**-16, 2**15), st.integers(-128, 127)
)
def test_quantise_rounds_to_nearest(values: list[int], scale: float, zero_point: int) -> None:
    real = np.array(values) / frontend.FEATURE_ONE / scale + zero_point
    got = frontend.quantise(np.array(values, np.int32), scale, zero_point).astype(float)
    slack = 0.5 + 2**-29 * np.abs(real - zero_point)
    assert (np.abs(got - np.clip(real, -128, 127)) <= slack).all()


@pytest.mark.parametrize(
    ("scale", "zero_point"), [(0.0, 0), (-1.0, 0), (float("nan"), 0), (1e9, 0), (0.5, 128)]
)
def test_quantise_refuses_what_int8_cannot_be(scale: float, zero_point: int) -> None:
    with pytest.raises(UserError, match=r"outside .*:"):
        frontend.quantise(np.zeros(1, np.int32), scale, zero_point)


@pytest.mark.parametrize("fe", CONFIGS.values(), ids=CONFIGS)
def test_matrix_is_librosas(fe: FrontEnd) -> None:
    np.testing.assert_allclose(frontend.mel_matrix(fe).T, librosa_mel(fe), atol=1e-12)


BAD = [
    ({"kind": "mel"}, "kind 'mel' is not logmel or mfcc"),
    ({"scale": "bark"}, "scale 'bark' is not slaney or htk"),
    ({"fft": 500}, "fft 500 is not a power of two: use 512"),
    ({"fft": 8, "window": 8, "hop": 8}, "fft 8 is not a whole number from 16 to 4096"),
    ({"fft": 8192}, "fft 8192 is not a whole number from 16 to 4096"),
    ({"window": 600}, "window of 600 samples is longer than the fft of 512: use fft 1024"),
    ({"window": 512.0}, "window 512.0 is not a whole number"),
    ({"hop": 0}, "hop 0 is not a whole number from 1"),
    ({"hop": 513}, "hop of 513 samples skips"),
    ({"bands": True}, "bands True is not a whole number"),
    ({"frames": 0}, "frames 0 is not"),
    ({"high_hz": 8_001}, "high_hz 8001 is not between 0 and 8000 Hz, half of 16000 Hz"),
    ({"low_hz": -1.0}, "low_hz -1.0 is not between"),
    ({"low_hz": float("nan")}, "low_hz nan is not between"),
    ({"low_hz": "50"}, "low_hz '50' is not between"),
    ({"low_hz": 7_600.0}, "low_hz 7600 is not below high_hz 7600"),
    ({"kind": "mfcc"}, "0 MFCC of 40 mel bands: use 1 to 40 coefficients"),
    ({"kind": "mfcc", "coefficients": 41}, "41 MFCC of 40 mel bands"),
    ({"coefficients": 13}, "13 coefficients mean nothing to logmel: use 0, or kind mfcc"),
    (
        {"bands": 200},
        r"mel band \d+ of 200 from 50 to 7600 Hz holds no FFT bin .*: use fft \d+ or use \d+ bands",
    ),
    ({"low_hz": 100.0, "high_hz": 101.0}, "holds no FFT bin .*: move low_hz and high_hz apart"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[str(change) for change, _ in BAD])
def test_wrong_values_name_the_cure(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        FrontEnd(**change)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([64, 256, 512]),
    st.integers(2, 90),
    st.floats(0, 3_000),
    st.floats(3_100, 8_000),
    st.sampled_from(["slaney", "htk"]),
)
def test_any_accepted_front_end_agrees(fft: int, bands: int, low: float, high: float, scale: str) -> None:
    try:
        fe = FrontEnd(window=fft, hop=fft, fft=fft, bands=bands, low_hz=low, high_hz=high, scale=scale)  # type: ignore[arg-type]
    except UserError as error:
        assert "holds no FFT bin" in str(error)  # noqa: PT017
        return
    samples = synthetic("noise", 4 * fft)
    got = frontend.to_float(frontend.features(samples, fe))
    # A band that lies beside its bins hears them by a 15-bit weight as small as 1/256: 0.02 dB.
    assert np.abs(got - librosa_features(samples, fe)).max() <= 0.03


def test_no_front_end_leaves_no_c() -> None:
    assert frontend_emit.declarations(None) == "#define EAR_FRONTEND 0\n"
    assert frontend_emit.constants(None) == ""
    assert frontend_emit.table_bytes(None) == 0


def test_sizes_are_what_the_tables_take() -> None:
    tables = frontend.tables(FrontEnd())
    assert frontend_emit.scratch_bytes(tables) == 4 * (512 + 40)
    assert frontend_emit.table_bytes(tables) < 4_096
