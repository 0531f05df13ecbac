"""The resident bootloader over the link: emulated boards and every board that already has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from boards.errors import UserError
from kit.device import Device, Progress
from kit.flash import whole
from kit.serial_port import EMULATOR, SerialWire, remember
from kit.update import write_image
from kit.virtual import VirtualBoard

if TYPE_CHECKING:
    from firmware.compiler.build import Build

FLASH_FILE = "board.flash"  # in the build directory: what a virtual board's flash holds


def flash(build: Build, port: str | None, progress: Progress) -> str | None:
    """Write `build` to its board and see it start; return the port of a real board, where it is now.

    Raises:
        UserError: the board cannot be reached, refuses the image, or runs something else afterwards.
    """
    with connect(build, port) as device:
        update(device, build, progress)
        return device.wire.name if isinstance(device.wire, SerialWire) else None


def connect(build: Build, port: str | None) -> Device:
    """Return the build's board, whatever it runs; a virtual one with a dead application: its bootloader.

    Raises:
        UserError: the port cannot be opened, or nothing answers.
    """
    board = build.board
    wire: SerialWire | VirtualBoard
    if board.kind == "virtual" and port is not None:
        raise UserError(f"{board.name} is emulated and has no port: leave --port {port} out")
    if port == EMULATOR and not board.emulated_flash:  # what it cannot write lies there from the start
        wire = VirtualBoard(board, whole.contents(build))
    elif board.kind == "virtual" or port == EMULATOR:
        wire = VirtualBoard(board, build.path / FLASH_FILE, boot=build.boot)
    else:
        wire = SerialWire(port, board)
    origin: Literal["emulated", "measured"] = "emulated" if isinstance(wire, VirtualBoard) else "measured"
    try:
        try:
            device = Device(wire, origin, board.clock_hz)
        except UserError:
            if not isinstance(wire, VirtualBoard):
                raise
            wire.power_cycle(boot_pin=True)
            device = Device(wire, origin, board.clock_hz)
    except BaseException:
        wire.close()
        raise
    if isinstance(wire, SerialWire):
        remember(board, wire.name)
    return device


def update(device: Device, build: Build, progress: Progress) -> None:
    """Write the application of `build` over an open link and start it.

    Raises:
        UserError: the board refuses the image, or the new one does not answer and the old one runs again.
    """
    if device.info().mode != "boot":
        device.reset("boot")
    kept = write_image(device, build.image, progress, second=build.second)
    if isinstance(device.wire, VirtualBoard):
        device.wire.release_boot_pin()
    try:
        device.reset("app")
    except UserError as error:
        cure = _fall_back(device) if kept else "there was no room to keep an old one: flash another build"
        raise UserError(
            f"{device.wire.name}: build {build.build_id} was written but does not answer ({error}); {cure}"
        ) from None
    if (runs := device.info().build_id) != build.build_id:
        raise UserError(
            f"{device.wire.name} runs build {runs} after flashing {build.build_id}, which did not answer"
        )


def _fall_back(device: Device) -> str:
    """Reset a board whose new image does not answer, where we can; return what runs then, or what to do."""
    if not isinstance(device.wire, VirtualBoard):
        return "reset the board: it will start the old one again"
    device.wire.power_cycle()
    return f"build {device.greet().build_id} runs again"
