"""The emulated boards' microphone: paced by the board's own clock, in order, and exact in what it loses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from small_firmware import program

import boards
from kit import unicorn_machine
from kit.unicorn_machine import UnicornMachine

RATE = 16_000
KEPT = 4096  # EAR_MICROPHONE_KEPT
UNICORN = [name for name in boards.names() if boards.load(name).emulator == "unicorn"]
START = f"ldr r7, =0x40000000\n ldr r0, ={RATE}\n str r0, [r7, #0x28]\n"
WAIT = "ldr r1, ={loops}\n1: subs r1, #1\n bne 1b\n"  # 2 instructions a round
SEND = " strb r0, [r7]\n lsrs r0, r0, #8\n strb r0, [r7]\n"  # the low half of r0, over the UART
READ = f"2: ldr r0, [r7, #0x2c]\n cmp r0, #0\n beq 3f\n{SEND} b 2b\n3:"
LOST = f"ldr r0, [r7, #0x30]\n{SEND}"
REST = " str r0, [r7, #8]\n"
END = "movs r0, #0\n str r0, [r7, #0x28]\n9: str r0, [r7, #8]\n b 9b\n .ltorg\n"

Int16 = npt.NDArray[np.int16]


def sound(samples: int) -> Int16:
    return np.random.default_rng(1).integers(-32768, 32768, samples).astype(np.int16)


def blocks(samples: Int16, size: int = 800) -> Iterator[Int16]:
    return iter(np.split(samples, range(size, samples.size, size)))


def heard(text: str, given: Int16, name: str = "virtual-m4", rate: int = RATE) -> Int16:
    """Run `text` in the given sound; return what it has sent, as int16."""
    board = boards.load(name)
    machine = UnicornMachine(board, program(text, board))
    machine.air(rate, blocks(given))
    said = b""
    while True:
        machine.run(2_000_000_000)
        more = machine.receive()
        said += more
        if not more:
            return np.frombuffer(said, "<i2")


@pytest.mark.parametrize("name", UNICORN)
def test_samples_come_with_the_clock(name: str) -> None:
    clock, given = boards.load(name).clock_hz, sound(1000)
    loops = clock // RATE * 100 // 2  # the time of 100 samples
    found = heard(START + WAIT.format(loops=loops) + READ + END, given, name)
    few = found.size - 100  # the reading itself takes time in which more come
    assert 0 <= few <= 5
    assert np.array_equal(found, given[: found.size])


def test_rest_brings_every_sample_until_the_air_is_used_up() -> None:
    given = sound(70_001)  # more than the air holds at once
    found = heard(f"{START}4: {REST}{READ} b 4b\n .ltorg\n", given)
    assert np.array_equal(found, given)


def test_who_is_late_loses_the_oldest_and_is_told_how_many() -> None:
    given = sound(20_000)
    loops = boards.load("virtual-m4").clock_hz // RATE * 10_000 // 2
    *found, lost = heard(START + WAIT.format(loops=loops) + READ + LOST + END, given)
    assert lost == 10_000 - KEPT
    assert KEPT <= len(found) <= KEPT + 20
    assert np.array_equal(np.array(found, np.int16), given[lost : lost + len(found)])


def test_what_is_lost_does_not_depend_on_the_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    given = sound(30_000)
    loops = boards.load("virtual-m4").clock_hz // RATE * 6_000 // 2
    text = START + 2 * (WAIT.format(loops=loops) + READ)
    results = set()
    for size in (100_000_000, 7_919):
        monkeypatch.setattr(unicorn_machine, "SLICE", size)
        results.add(heard(text + LOST + END, given).tobytes())
    assert len(results) == 1


def test_another_rate_is_refused() -> None:
    text = START + "ldr r0, [r7, #0x28]\n" + SEND + END
    assert heard(text, sound(10)).tolist() == [RATE]
    assert heard(text, sound(10), rate=8_000).tolist() == [0]


def test_no_air_is_silence_without_samples() -> None:
    board = boards.load("virtual-m4")
    machine = UnicornMachine(board, program(START + REST + READ + LOST + END, board))
    assert machine.run(10_000)  # rests, and nothing wakes it
    assert machine.receive() == b""
