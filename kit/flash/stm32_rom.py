"""The STM32's own bootloader in ROM, over a UART: for blank chips and home-made boards, no probe needed."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from boards.errors import UserError
from boards.flashing import Line, Stm32Rom, level
from kit import serial_port
from kit.flash import an3155, whole
from kit.flash.an3155 import LostError, RefusedError, Rom, SpoiledError
from kit.progress import Progress
from kit.serial_port import PortError

if TYPE_CHECKING:
    from boards import Board
    from firmware.compiler.build import Build

FLASH = 0x08000000  # where the flash of every STM32 begins
WORD = 32  # bytes that are programmed at once: on STM32H7, fewer on others
ATTEMPTS = 3
READS = 3  # of a block that does not read back: the answer has no checksum
PULSE = 0.05  # seconds that reset is held, and that the ROM takes to start
BY_HAND = "hold BOOT0 high, press reset, and run the same command again"


def flash(build: Build, port: str | None, progress: Progress) -> str:
    """Write bootloader and application, read them back, start them; return the port that answers.

    Raises:
        UserError: the ROM does not answer, refuses, or the flash does not hold what was written.
    """
    board, table = build.board, build.board.stm32_rom
    assert table is not None  # boards.parse: a listed method has its table
    if port is None and not table.same_port:
        raise UserError(f"{board.name}'s ROM talks on a port of its own: name that adapter with --port")
    name = port or serial_port.find(board)
    with _opened(name, table) as line:
        by_lines = _start(line, table, boot0=True)
        rom = Rom(line, name, table.baud)
        if not rom.greet():
            tried = "although RTS and DTR were moved" if by_lines else "and this port moves no BOOT0 or reset"
            raise UserError(f"{name}: no STM32 bootloader answers, {tried}: {BY_HAND}")
        code = _known(rom, board, table)
        _write(rom, code, build, progress)
        rom.go(board.flash_memory.origin)
        _start(line, table, boot0=False)
    if table.same_port:
        return whole.see(build, name)
    try:
        return whole.see(build, None)
    except PortError as error:
        raise UserError(
            f"{board.name} is written and reads back, but its firmware talks elsewhere: {error}"
        ) from None


@contextmanager
def _opened(name: str, table: Stm32Rom) -> Iterator[Any]:
    """Yield the port, with parity if it has any; what goes wrong on it in the block becomes one line."""
    settings = {"baudrate": table.baud, "timeout": 0.01}
    try:
        line = serial_port.opened(name, table.idle, parity=table.parity[0].upper(), **settings)
    except Exception as error:  # termios.error is no OSError
        if error.args[:1] != (errno.EINVAL,):
            raise
        line = serial_port.opened(name, table.idle, **settings)  # a pty refuses parity
    try:
        yield line
    except RefusedError as error:
        raise UserError(f"{name}: the chip refuses the {error.stage}: {_cure(error.stage)}") from None
    except LostError as error:
        raise UserError(f"{error}: check cable and supply, then {BY_HAND}") from None
    except OSError as error:
        raise UserError(
            f"{name} went away ({error}): check the cable, plug it in again, then {BY_HAND}"
        ) from None
    finally:
        line.close()


def _cure(stage: str) -> str:
    if stage == "command":
        return "its flash is read-protected: `stm32flash -k PORT` removes that and erases the chip"
    if stage == "address":
        return "there is no such flash: is this the board that the build is for?"
    return "its flash is write-protected: `stm32flash -u PORT` removes that"


def _start(line: Any, table: Stm32Rom, *, boot0: bool) -> bool:
    """Reset the chip into its ROM or its flash by the modem lines; tell whether the port has them."""

    def drive(pin: Line, high: bool) -> bool:
        for name, asserted in level(pin, high=high).items():
            try:
                setattr(line, name, asserted)
            except OSError:  # ENOTTY: no such line
                return False
        return pin != "none"

    if not drive(table.boot0, boot0) or not drive(table.reset, False):
        return False
    time.sleep(PULSE)
    drive(table.reset, True)
    time.sleep(PULSE)
    return True


def _known(rom: Rom, board: Board, table: Stm32Rom) -> int:
    """Return the code of the erase command, once the chip is the board's and its flash may be read.

    Raises:
        UserError: it is another chip, or one whose bootloader cannot erase.
    """
    commands, found = rom.commands(), rom.chip_id()
    if found != table.chip_id:
        raise UserError(
            f"the chip says that it is {found:#05x}, {board.name} has {table.chip_id:#05x}: "
            "build for the board that is plugged in"
        )
    for code in (an3155.EXTENDED_ERASE, an3155.ERASE):
        if code in commands:
            rom.read(board.flash_memory.origin, 4)
            return code
    raise UserError(f"the bootloader of {board.name} has no erase command: write it over SWD instead")


def _write(rom: Rom, code: int, build: Build, progress: Progress) -> None:
    board, table, data = build.board, build.board.stm32_rom, whole.contents(build)
    assert table is not None
    origin, wrong = board.flash_memory.origin, 0
    for _ in range(ATTEMPTS):
        _erase(rom, code, board, table, progress)
        blank = rom.read(origin, 4)[:1]  # 0 on some
        try:
            for at in range(0, len(data), table.block):
                block = data[at : at + table.block]
                if block.strip(blank):
                    rom.write(origin + at, block + b"\xff" * (-len(block) % WORD))
                progress("write", min(at + table.block, len(data)), len(data))
        except SpoiledError:
            continue
        for at in range(0, len(data), 256):
            if not _holds(rom, origin + at, data[at : at + 256]):
                wrong = origin + at
                break
            progress("verify", min(at + 256, len(data)), len(data))
        else:
            return
    raise UserError(
        f"{board.name} does not hold what was written at {wrong or origin:#010x}, {ATTEMPTS} times: "
        "shorten the cable or lower stm32_rom.baud; else the flash is worn out"
    )


def _holds(rom: Rom, address: int, data: bytes) -> bool:
    return any(rom.read(address, len(data)) == data for _ in range(READS))


def _erase(rom: Rom, code: int, board: Board, table: Stm32Rom, progress: Progress) -> None:
    """Erase the board's flash: at once where the chip can and nothing else lies in it, else page by page."""
    flash = board.flash_memory
    if table.mass_erase and flash.origin == FLASH:
        progress("erase", 0, flash.size)
        try:
            rom.erase_all(code)
        except RefusedError as error:
            if error.stage == "command" or not table.pages:
                raise
        else:
            progress("erase", flash.size, flash.size)
            return
    pages = list(_pages(table, flash.origin, flash.origin + flash.size))
    for first in range(0, len(pages), an3155.PAGES):
        part = pages[first : first + an3155.PAGES]
        rom.erase(code, [number for number, _ in part])
        progress("erase", min(part[-1][1], flash.origin + flash.size) - flash.origin, flash.size)


def _pages(table: Stm32Rom, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (number, address behind it) of every page that touches start … end."""
    number, address = 0, FLASH
    for count, size in table.pages:
        for _ in range(count):
            if address < end and address + size > start:
                yield number, address + size
            number, address = number + 1, address + size
