"""Sound at 4 bits a sample: encoder and the board's decoder against the standard library's codec."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import boards
import firmware
from firmware.compiler import toolchain
from firmware.compiler.build import Build, load
from kit import adpcm
from kit import device as devices
from kit.device import Device
from kit.fake_link import PacedWire
from kit.flash import serial
from kit.virtual import VirtualBoard

audioop = pytest.importorskip("audioop", reason="Python 3.13 has no audioop")
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Int16 = npt.NDArray[np.int16]
Decode = Callable[[bytes], Int16]
C = """#include "adpcm.h"
void decode(const uint8_t *message, int16_t *to, uint32_t samples) {
    ear_adpcm_t coded = ear_adpcm_begin(message);
    while (samples--) *to++ = ear_adpcm_next(&coded);
}
"""


@pytest.fixture(scope="module")
def decode(tmp_path_factory: pytest.TempPathFactory) -> Decode:
    folder = tmp_path_factory.mktemp("adpcm")
    (folder / "decode.c").write_text(C)
    toolchain.host_library(folder / "decode.c", (firmware.ROOT,), folder / "decode.so")
    library = ctypes.CDLL(str(folder / "decode.so"))

    def call(message: bytes) -> Int16:
        out = np.zeros(2 * (len(message) - 4), np.int16)
        library.decode(message, out.ctypes.data_as(ctypes.c_void_p), out.size)
        return out

    return call


sounds = st.lists(st.integers(-32768, 32767), min_size=1, max_size=200).map(
    lambda values: np.repeat(np.array(values, np.int16), 2)
)


@few
@given(parts=st.lists(sounds, min_size=1, max_size=3))
def test_messages_are_those_of_the_standard_library(decode: Decode, parts: list[Int16]) -> None:
    encoder, state = adpcm.Encoder(), (0, 0)
    for part in parts:
        message = encoder.encode(part)
        coded, after = audioop.lin2adpcm(part.tobytes(), 2, state)
        assert message == np.int16(state[0]).tobytes() + bytes((state[1], 0)) + coded
        assert decode(message).tobytes() == audioop.adpcm2lin(coded, 2, state)[0]
        state = after


@few
@given(
    value=st.integers(-32768, 32767), quality=st.integers(0, 88), coded=st.binary(min_size=1, max_size=512)
)
def test_any_bytes_are_decoded_as_the_standard_library_does(
    decode: Decode, value: int, quality: int, coded: bytes
) -> None:
    message = np.int16(value).tobytes() + bytes((quality, 0)) + coded
    assert decode(message).tobytes() == audioop.adpcm2lin(coded, 2, (value, quality))[0]


def test_a_wrong_step_harms_nothing(decode: Decode) -> None:
    assert decode(b"\0\0\xff\0\x77").size == 2


@pytest.mark.parametrize(
    ("baud", "rate", "needed"),
    [(None, 48_000, False), (921_600, 16_000, False), (460_800, 16_000, False), (115_200, 16_000, True)],
)
def test_slow_lines_are_known(baud: int | None, rate: int, needed: bool) -> None:
    assert adpcm.wanted(baud, rate) == needed
    assert not needed or (rate / 2) * adpcm.LINE_BITS * adpcm.OVERHEAD < baud


SECONDS = 4


@pytest.fixture(scope="module")
def build(tiny_build: Path) -> Build:
    return load(tiny_build)


def board_at(build: Build, baud: int) -> tuple[Device, PacedWire]:
    board = VirtualBoard(build.board, build.boot.ljust(boards.BOOT_BYTES, b"\xff") + build.image)
    wire = PacedWire(board, baud, lambda: board.instructions() / build.board.clock_hz)
    return Device(wire), wire


def sound() -> Int16:
    draw = np.random.default_rng(3)
    tone = 9000 * np.sin(np.arange(SECONDS * 16_000) * 0.1) * np.sin(np.arange(SECONDS * 16_000) * 3e-4)
    return (tone + draw.normal(0, 400, tone.size)).astype(np.int16)


@pytest.mark.parametrize(("baud", "packed"), [(921_600, False), (460_800, False), (115_200, True)])
def test_sound_gets_there_in_real_time(build: Build, baud: int, packed: bool) -> None:
    device, wire = board_at(build, baud)
    device.packed = packed
    start = wire.seconds
    results = list(device.stream(np.split(sound(), 40), 10))
    assert wire.seconds - start < SECONDS
    assert results[-1].dropped == 0


def test_a_slow_line_carries_no_int16(build: Build) -> None:
    device, wire = board_at(build, 115_200)
    start = wire.seconds
    list(device.stream([sound()], 10))
    assert wire.seconds - start > 2 * SECONDS


@pytest.mark.parametrize("cut", [1600, 1601])
def test_the_board_hears_what_the_standard_library_decodes(build: Build, cut: int) -> None:
    device, _ = board_at(build, 115_200)
    samples = sound()[: 2 * (16_000 // cut) * cut]
    device.packed = True
    packed = list(device.stream(np.split(samples, 2 * (16_000 // cut)), 10))
    heard, state = [], (0, 0)
    for chunk in np.split(samples, 2 * (16_000 // cut)):
        even = chunk.size // 2 * 2
        coded, after = audioop.lin2adpcm(chunk[:even].tobytes(), 2, state)
        heard += [np.frombuffer(audioop.adpcm2lin(coded, 2, state)[0], np.int16), chunk[even:]]
        state = after
    device.packed = False
    plain = list(device.stream([np.concatenate(heard)], 10))
    assert [result.output.tolist() for result in packed] == [result.output.tolist() for result in plain]


def test_a_build_on_a_slow_line_is_packed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    for baud in (115_200, 921_600):
        device, _ = board_at(build, baud)
        monkeypatch.setattr(serial, "connect", lambda *_, device=device: device)
        assert devices.open(build, None).packed == (baud == 115_200)


def test_listening_says_so(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    from kit import listen, listen_view

    soundfile.write(tmp_path / "clip.wav", sound(), 16_000)
    for baud, form in ((115_200, "adpcm"), (921_600, "int16")):
        device, _ = board_at(build, baud)
        monkeypatch.setattr(serial, "connect", lambda *_, device=device: device)
        heard = listen.listen(build, str(tmp_path / "clip.wav"), fast=True)
        assert heard.record()["sent_as"] == form
        assert ("ADPCM" in listen_view.summary(heard)) == (form == "adpcm")
