"""A board that answers: inference, profile, features, streaming, memory and flashing over one link."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit import adpcm
from kit.link import BODY, PATIENCE, GoneError, Link, LinkError, NoAnswerError, Wire

if TYPE_CHECKING:
    from firmware.compiler.build import Build
    from firmware.compiler.program import Program

    Runs = Build | Program

Int8 = npt.NDArray[np.int8]
Chunks = Iterable[npt.NDArray[np.int16] | int]
Progress = Callable[[str, int, int], None]
Unit = Literal["instructions", "cycles", "nanoseconds"]

INFO, LOAD, INFER, PROFILE = 1, 2, 3, 4
STREAM_START, STREAM_DATA, STREAM_STOP, STREAM_RESULT = 5, 6, 7, 8
MEMORY, RESET, FORGET = 9, 10, 11
CHECK, SPIN = 14, 15
STREAM_ADPCM = 21
PIECE = BODY - 8  # payload bytes of a message with one argument
PACKED = 2 * (BODY - 12)  # samples of a message of ADPCM
RESET_PATIENCE = 1.0  # seconds
WORK_PATIENCE = 120.0  # seconds a real board may compute on one input
STATUS = {
    1: "does not know the command: its firmware has another mode or version; run `earkit flash`",
    2: "refused an argument out of range",
    3: "has not got its whole input",
    4: "could not erase or program its flash: worn out or write-protected",
    5: "refused the image: it does not match its SHA-256; run `earkit flash` again",
    6: "refused the image: another key has signed it than the one that its bootloader knows",
}
_INFO = struct.Struct("<16I16s")  # ear_info_t
QEMU_HZ = 31_250_000  # instructions that QEMU runs in a second of its clock, see kit/qemu.py
UNIT_AT = 8  # of the numbers behind version and mode
UNITS: tuple[Unit, ...] = get_args(Unit)  # by port_unit
PROGRAM = 2  # mode of an application that no bootloader started
_WATCH = struct.Struct("<3I")  # ear_watch_t
WATCHED = PIECE // _WATCH.size  # places in one CHECK
_MEMORY = struct.Struct("<7I")  # ear_memory_t


@dataclass(frozen=True)
class Info:
    """What a board says about itself. Sizes in bytes; window and hop in samples, zero without a front end."""

    version: int
    mode: Literal["boot", "app"]
    build_id: str  # "" in the bootloader
    input_bytes: int
    output_bytes: int
    nodes: int
    arena_bytes: int
    window: int
    hop: int
    frames: int
    features: int
    unit: Unit
    app_bytes: int
    fault_pc: int  # of the application's last crash, 0 if none
    fault_address: int
    damaged: int  # frames that the board received damaged
    duplicates: int
    resident: bool  # a bootloader lies under it, which takes new images; False: a program of a computer


@dataclass(frozen=True)
class Counts:
    """One inference counted: `total` without probes, `per_node` less the `overhead` of an empty interval."""

    total: int
    per_node: tuple[int, ...]
    overhead: int
    unit: Unit
    origin: Literal["emulated", "measured"]
    output: Int8


@dataclass(frozen=True)
class Result:
    """One result of a stream: its window ended before sample `sample`; work since the result before."""

    sample: int
    output: Int8
    instructions: int
    dropped: int  # samples that never reached the board, so far


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of RAM; `static_bytes` holds .data and .bss with the arena in it."""

    stack_bytes: int
    stack_high_water: int
    arena_bytes: int
    arena_high_water: int
    static_bytes: int
    stack_intact: bool
    arena_intact: bool


class Device:
    """A board at the other end of `wire`; a context manager that closes the wire.

    `clock_hz` is the clock of an emulated core, to turn its cycles into instructions.

    Raises:
        LinkError: nothing answers, or something else than earkit's firmware.
    """

    def __init__(
        self, wire: Wire, origin: Literal["emulated", "measured"] = "measured", clock_hz: int = QEMU_HZ
    ) -> None:
        self.wire, self.origin, self._clock_hz = wire, origin, clock_hz
        self.packed = False  # whether streams go as ADPCM, since the line carries no more
        self._link = Link(wire)
        self._info = self.greet()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the wire back."""
        self.wire.close()

    def greet(self) -> Info:
        """Begin a new session, after a reset for instance, and ask the board about itself."""
        self._link.connect()
        return self.info()

    @property
    def link(self) -> Link:
        """Return the link, for messages that come unasked."""
        return self._link

    def info(self) -> Info:
        """Ask the board about itself."""
        self._info = self._read_info()
        return self._info

    def infer(self, x: npt.NDArray[Any]) -> Int8:
        """Return the model's output (output_bytes,) for one int8 input of input_bytes values, any shape.

        Of a model with several inputs or outputs, or of other types, these are their bytes, in order.
        """
        return self._infer(x)[1]

    def profile(self, x: npt.NDArray[Any]) -> Counts:
        """Count one inference of `x`: as a whole first, then once more node by node."""
        total, output = self._infer(x)
        self._load(x)
        answer = self.call(PROFILE, patience=WORK_PATIENCE)
        overhead = self._work(int.from_bytes(answer[:8], "little"))
        counts = [self._work(int(count)) for count in np.frombuffer(answer[8:], "<u4")]
        per_node = tuple(max(count - overhead, 0) for count in counts)
        return Counts(total, per_node, overhead, self._info.unit, self.origin, output)

    def check(self, x: npt.NDArray[Any], watched: Sequence[tuple[int, int, int]]) -> tuple[int, ...]:
        """Return the CRC-32 of each place (node, offset, bytes) as that node leaves it in a run on `x`.

        Offsets are the plan's, states behind all arenas; at most WATCHED places, by rising node.
        """
        self._load(x)
        answer = self.call(CHECK, b"".join(_WATCH.pack(*one) for one in watched), WORK_PATIENCE)
        return tuple(int(crc) for crc in np.frombuffer(answer, "<u4"))

    def spin(self, counts: int) -> int:
        """Let the board wait for `counts` (below 2³²) of its own counter; return how many passed."""
        return int.from_bytes(self.call(SPIN, struct.pack("<I", counts), WORK_PATIENCE), "little")

    def features(self, samples: npt.NDArray[np.int16]) -> Int8:
        """Return the board's features (frames, features), quantised as the model's input.

        `samples` has window + (frames - 1) * hop values; later ones are not looked at.
        """
        info = self._front_end()
        needed = info.window + (info.frames - 1) * info.hop
        if samples.ndim != 1 or samples.size < needed:
            raise UserError(
                f"{self.wire.name} needs {needed} samples for one input, got {samples.size}: use more"
            )
        (result,) = self.stream([samples[:needed]], info.frames, features_only=True)
        return result.output.reshape(info.frames, info.features)

    def memory(self) -> MemoryUse:
        """Return how much RAM the firmware has used so far, and whether the guards around it are whole."""
        stack, used, arena, touched, static, *intact = _MEMORY.unpack(self.call(MEMORY))
        return MemoryUse(stack, used, arena, touched, static, bool(intact[0]), bool(intact[1]))

    def forget(self) -> None:
        """Put the model's states back to their first values: the next inference begins a sequence."""
        self.call(FORGET)

    def reset(self, to: Literal["boot", "app"]) -> None:
        """Reset the board into the bootloader or the application and greet it again, on USB at its new port.

        Raises:
            LinkError: it did not come back, or in the other one: there is no valid application.
        """
        if to == "boot" and not self._info.resident:
            raise LinkError(f"{self.wire.name} is a program without a bootloader: compile it again")
        with suppress(NoAnswerError, GoneError):  # the board may be gone before its answer is
            self.call(RESET, struct.pack("<I", to == "boot"), RESET_PATIENCE)
        self._link.reconnect()
        if self.info().mode != to:
            crash = f"; the last one crashed at PC {self._info.fault_pc:#010x}" if self._info.fault_pc else ""
            raise LinkError(
                f"{self.wire.name} stays in its bootloader: no valid application{crash}; run `earkit flash`"
            )

    def restart(self) -> Wire:
        """Reset the board into its application and return the wire, on which it waits for the first word.

        What it says of itself when it starts is not among what can be read there.
        """
        with suppress(NoAnswerError, GoneError):  # the board may be gone before its answer is
            self.call(RESET, struct.pack("<I", False), RESET_PATIENCE)
        self._link.rest(RESET_PATIENCE)
        return self.wire

    def _read_info(self) -> Info:
        answer = self.call(INFO)
        if len(answer) != _INFO.size:
            raise LinkError(f"{self.wire.name} runs another firmware version: run `earkit flash`")
        version, mode, *numbers, build_id = _INFO.unpack(answer)
        values: list[Any] = [*numbers, mode != PROGRAM]
        values[UNIT_AT] = UNITS[min(numbers[UNIT_AT], len(UNITS) - 1)]
        self._instructions = 1.0  # in one count of the board's
        if values[UNIT_AT] == "cycles" and self.origin == "emulated":  # an emulator's cycles are its clock's
            values[UNIT_AT] = "instructions"
            self._instructions = QEMU_HZ / self._clock_hz
        name = build_id.rstrip(b"\0").decode("ascii", "replace")
        return Info(version, "app" if mode else "boot", name, *values)

    def _front_end(self) -> Info:
        if not self._info.window:
            raise UserError(
                f"the model on {self.wire.name} has no front end: compile a bundle, or use `earkit run`"
            )
        return self._info

    def _load(self, x: npt.NDArray[Any]) -> None:
        if x.dtype != np.int8 or x.size != self._info.input_bytes:
            raise UserError(
                f"{self.wire.name} needs {self._info.input_bytes} int8 values, got {x.size} of {x.dtype}"
            )
        data = np.ascontiguousarray(x).tobytes()
        for offset in range(0, len(data), PIECE):
            self._link.send(_request(LOAD, struct.pack("<I", offset) + data[offset : offset + PIECE]))

    def _infer(self, x: npt.NDArray[Any]) -> tuple[int, Int8]:
        self._load(x)
        answer = self.call(INFER, patience=WORK_PATIENCE)
        return self._work(int.from_bytes(answer[:8], "little")), np.frombuffer(answer[8:], np.int8)

    def _work(self, count: int) -> int:
        """Return a count of the board's in the unit that its info has."""
        return round(count * self._instructions)

    def stream(self, chunks: Chunks, hop_frames: int, *, features_only: bool = False) -> Iterator[Result]:
        """Send int16 samples at the model's rate; once the input is full, yield a result each `hop_frames`.

        An int among the chunks stands for that many samples which were lost before they got here. With
        `features_only` the model does not run: its inputs come back instead of its outputs.
        """
        self._front_end()
        if hop_frames < 1:
            raise UserError(f"hop of {hop_frames} frames: needs at least 1")
        self.call(STREAM_START, struct.pack("<II", hop_frames, features_only))
        encoder = adpcm.Encoder() if self.packed and not features_only else None
        sent, stopped = 0, False
        try:
            for chunk in chunks:
                if isinstance(chunk, int):
                    sent += chunk
                    continue
                for command, piece, samples in _pieces(chunk, encoder):
                    message = _request(command, struct.pack("<I", sent % 2**32) + piece)
                    self._link.send(message, WORK_PATIENCE)
                    sent += samples
                while answer := self._link.poll():
                    yield self._result(answer)
            stopped = True
            yield from self._stop()
        finally:
            if not stopped:
                list(self._stop())

    def _stop(self) -> Iterator[Result]:
        """End the stream; yield what was still on its way."""
        self._link.send(_request(STREAM_STOP))
        while True:
            message = self._link.receive(WORK_PATIENCE)
            if message[0] == STREAM_STOP | 0x80:
                return
            yield self._result(message)

    def _result(self, message: bytes) -> Result:
        sample, dropped, count, output = (
            *struct.unpack_from("<IIQ", data := self._data(STREAM_RESULT, message)),
            data[16:],
        )
        return Result(sample, np.frombuffer(output, np.int8), self._work(count), dropped)

    def call(self, command: int, arguments: bytes = b"", patience: float = PATIENCE) -> bytes:
        """Send a command and return the data of its answer; UserError when the board refuses it."""
        self.post(command, arguments)
        return self.answer(command, patience)

    def post(self, command: int, arguments: bytes = b"") -> None:
        """Send a command without waiting for an answer."""
        self._link.send(_request(command, arguments))

    def answer(self, command: int, patience: float = PATIENCE) -> bytes:
        """Return the data of the next answer, which must be that of `command`."""
        return self._data(command, self._link.receive(patience))

    def _data(self, command: int, message: bytes) -> bytes:
        """Return the data of an answer that begins with `message`."""
        whole = bytearray()
        while True:
            if len(message) < 4 or message[0] != command | 0x80:
                raise LinkError(
                    f"{self.wire.name} answered {message[:4].hex()} to command {command}: run `earkit flash`"
                )
            if message[1]:
                raise LinkError(f"{self.wire.name} {STATUS.get(message[1], f'gave status {message[1]}')}")
            whole += message[4:]
            if not message[2]:
                return bytes(whole)
            message = self._link.receive()


def open(build: Runs, port: str | None, progress: Progress = lambda *_: None) -> Device:  # noqa: A001
    """Return the board that runs `build`: the virtual one, the one at `port`, or the computer there.

    A virtual board that does not run this build yet is flashed first, over the same link.

    Raises:
        UserError: the port cannot be opened, nothing answers, or a real board runs something else.
    """
    from firmware.compiler.build import Build
    from kit import targets
    from kit.flash import serial

    device = serial.connect(build, port) if isinstance(build, Build) else targets.connect(build, port)
    if build.frontend:
        baud = getattr(device.wire, "baud", None)
        device.packed = adpcm.wanted(baud, build.frontend["sample_rate"])
    try:
        info = device.info()
        if info.mode == "app" and info.build_id == build.build_id:
            return device
        if device.origin == "measured" or not isinstance(build, Build):
            runs = f"build {info.build_id}" if info.mode == "app" else "its bootloader"
            raise UserError(f"{device.wire.name} runs {runs}, not {build.build_id}: run `earkit flash` first")
        serial.update(device, build, progress)
    except BaseException:
        device.close()
        raise
    return device


def _request(command: int, arguments: bytes = b"") -> bytes:
    return bytes((command, 0, 0, 0)) + arguments


def _pieces(
    samples: npt.NDArray[np.int16], encoder: adpcm.Encoder | None
) -> Iterator[tuple[int, bytes, int]]:
    """Yield commands, what they carry and how many samples that is."""
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise UserError(f"a stream needs mono int16 samples, got {samples.dtype} of shape {samples.shape}")
    even = samples.size // 2 * 2 if encoder else 0
    for at in range(0, even, PACKED):
        part = samples[at : min(at + PACKED, even)]
        assert encoder is not None
        yield STREAM_ADPCM, encoder.encode(part), part.size
    for at in range(even, samples.size, PIECE // 2):
        part = samples[at : at + PIECE // 2]
        yield STREAM_DATA, part.astype("<i2").tobytes(), part.size
