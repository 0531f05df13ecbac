"""Updates gone wrong at a chosen point of the line or of the flash, and what the board runs then."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from small_firmware import MODEL_C, MODEL_H

import boards
import firmware
from boards.errors import UserError
from firmware.compiler import image as images
from firmware.compiler import link_script, signing, toolchain
from firmware.compiler.elf import Elf
from kit import link
from kit.device import Device
from kit.unicorn_machine import UnicornMachine
from kit.update import write_image
from kit.virtual import VirtualBoard

Fault = Literal["cut", "flip", "drop", "repeat", "delay"]
FAULTS: tuple[Fault, ...] = ("cut", "flip", "drop", "repeat", "delay")


@dataclasses.dataclass(frozen=True)
class Small:
    """The smallest firmware of a board: its bootloader, and an application for both places."""

    board: boards.Board
    boot: bytes
    bodies: tuple[bytes, bytes]

    def images(self, name: str) -> tuple[bytes, bytes]:
        """Return the application under another build id of 8 characters, for both places."""
        origin, second = self.board.app_origin, self.board.second_image
        first, last = (body.replace(b"stand-in", name.encode()) for body in self.bodies)
        return images.pack(first, name, origin), images.pack(last, name, origin + second)

    def flash(self, first: bytes = b"", second: bytes = b"") -> bytes:
        """Return what a flash holds with the bootloader and these images."""
        room = self.board.second_image
        return self.boot.ljust(boards.BOOT_BYTES, b"\xff") + first.ljust(room, b"\xff") + second


def small(folder: Path, name: str = "virtual-m4") -> Small:
    """Compile a Small in `folder`."""
    (folder / "model.h").write_text(MODEL_H)
    (folder / "model.c").write_text(MODEL_C)
    board, port = boards.load(name), firmware.port(boards.load(name).port)
    app = (*firmware.APP, folder / "model.c", port)

    def linked(which: Literal["boot", "app"], offset: int = 0) -> bytes:
        script = link_script.script(board, which, offset=offset)
        sources, defines = (
            (app, {}) if which == "app" else ((*firmware.BOOT, port), signing.defines(signing.public()))
        )
        out = folder / f"{which}{offset}.elf"
        toolchain.compile(sources, (folder, firmware.ROOT), board, script, out, "s", defines=defines)
        start = board.app_origin + offset + images.HEADER_BYTES
        return Elf(out.read_bytes()).image(start if which == "app" else board.flash_memory.origin)

    return Small(board, linked("boot"), (linked("app"), linked("app", board.second_image)))


class SpoiltWire:
    """A wire that does one thing wrong at its frame number `at`, counting both directions."""

    live = False

    def __init__(self, wire: VirtualBoard, fault: Fault, at: int, seed: int = 0) -> None:
        self.name, self.frames = wire.name, 0
        self._wire, self._fault, self._at = wire, fault, at
        self._random = random.Random(seed)
        self._late = b""

    def read(self, timeout: float) -> bytes:
        """Return what the board says, spoilt when its turn has come."""
        return self._spoil(self._wire.read(timeout), lambda _: None)

    def write(self, data: bytes) -> None:
        """Send `data`, spoilt when its turn has come."""
        self._wire.write(self._spoil(data, self._wire.write))

    def close(self) -> None:
        """Give the line back."""
        self._wire.close()

    def _spoil(self, data: bytes, begin: Callable[[bytes], None]) -> bytes:
        return b"".join(self._frame(part + b"\0", begin) for part in data.split(b"\0")[:-1])

    def _frame(self, frame: bytes, begin: Callable[[bytes], None]) -> bytes:
        self.frames += 1
        if self.frames == self._at + 2 and self._late:  # a delayed frame comes behind the next one
            frame, self._late = frame + self._late, b""
        if self.frames != self._at + 1:
            return frame
        if self._fault == "cut":
            begin(frame[: self._random.randrange(len(frame))])
            raise link.GoneError(f"{self.name} went away")
        if self._fault == "flip":
            bit = self._random.randrange(8 * len(frame))
            return bytes(byte ^ (1 << bit % 8 if at == bit // 8 else 0) for at, byte in enumerate(frame))
        if self._fault == "drop":
            at = self._random.randrange(len(frame))
            return frame[:at] + frame[at + self._random.randrange(1, 1 + len(frame) - at) :]
        if self._fault == "repeat":
            return frame + frame
        self._late = frame
        return b""


class CutBoard(VirtualBoard):
    """A virtual board whose flash controller loses its power in the middle of an operation."""

    def arm(self, operation: int | None) -> None:
        """Let that operation from now on, 1 or later, be done by half and none after it; None: all."""
        machine = self._machine
        assert isinstance(machine, UnicornMachine)
        machine._state.flash_ends = 0 if operation is None else machine.flash_changes + operation

    @property
    def operations(self) -> int:
        """Return how many things the flash controller has done so far."""
        return self._machine.flash_changes


def runs(wire: VirtualBoard) -> str:
    """Return which build answers after a power cycle, "" for the bootloader."""
    wire.power_cycle()
    return Device(wire).info().build_id


def update(wire: link.Wire, new: tuple[bytes, bytes]) -> None:
    """Update a board and start what was written."""
    device = Device(wire)
    if device.info().mode == "app":
        device.reset("boot")
    write_image(device, new[0], second=new[1])
    device.reset("app")


OLD, NEW = "old-----", "new-----"


class Trial:
    """A board that runs OLD, to be updated to NEW with one thing going wrong; each try begins afresh."""

    def __init__(self, small: Small) -> None:
        self.board, self.new = small.board, small.images(NEW)
        self._flash = small.flash(small.images(OLD)[0])

    def size(self) -> tuple[int, int]:
        """Return the frames and the flash operations of an update that goes well."""
        board = self._fresh()
        wire = SpoiltWire(board, "cut", 10**9)
        update(wire, self.new)
        return wire.frames, board.operations

    def line(self, fault: Fault, at: int, seed: int = 0) -> str:
        """Spoil frame `at`; return what runs after a power cycle, and after a second, plain update."""
        board = self._fresh()
        with contextlib.suppress(link.LinkError):
            update(SpoiltWire(board, fault, at, seed), self.new)
        return self._after(board)

    def power(self, operation: int) -> str:
        """Take the power in the middle of a flash operation; return the same."""
        board = self._fresh()
        board.arm(operation)
        with contextlib.suppress(UserError):
            update(board, self.new)
        board.arm(None)
        return self._after(board)

    def _fresh(self) -> CutBoard:
        return CutBoard(self.board, self._flash)

    def _after(self, board: CutBoard) -> str:
        first = runs(board)
        update(board, self.new)
        return f"{first} {Device(board).info().build_id}"


SURVIVED = {f"{OLD} {NEW}", f"{NEW} {NEW}"}
