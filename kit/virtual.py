"""Virtual boards: an emulated board as a wire; a file holds its flash between runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from boards import BOOT_BYTES, Board, atomic
from boards.errors import UserError
from kit import link

if TYPE_CHECKING:
    from kit.audio import Samples

LIMIT = 10_000_000_000  # instructions per request, about 30 s: the board counts as hung after that


class Machine(Protocol):
    """An emulator of one board."""

    live: bool  # whether more may come after `run` has returned

    @property
    def instructions(self) -> int:
        """Instructions executed since power-on."""

    @property
    def flash(self) -> bytes:
        """What the flash holds."""

    @property
    def flash_changes(self) -> int:
        """Moves when the flash is erased or programmed."""

    def boot_pin(self, held: bool) -> None:
        """Hold the boot pin or let it go."""

    def power_cycle(self) -> None:
        """Clear RAM and reset."""

    def air(self, rate: int, sound: Iterator[Samples]) -> None:
        """Let the microphone hear `sound` at `rate` Hz from its next start on; behind its end, nothing."""

    def send(self, data: bytes) -> None:
        """Put bytes on the receive line."""

    def receive(self) -> bytes:
        """Take what was sent."""

    def run(self, limit: int, timeout: float) -> bool:
        """Run until the board rests; False when it did not within `limit` instructions.

        A live machine runs by itself: there it waits `timeout` seconds for the board to say something.
        """

    def close(self) -> None:
        """End the emulator."""


class VirtualBoard:
    """A wire to an emulated board.

    `flash` is what its flash holds: bytes, or a file that keeps it between runs (missing: erased flash). The
    file is replaced whole, so two processes never mix their contents: the last one to write wins. A file that
    cannot be written stays as it is and the board runs from memory.

    Raises:
        UserError: the emulator is missing, or the file has another size than the board's flash.
    """

    def __init__(
        self, board: Board, flash: bytes | Path, *, boot: bytes | None = None, limit: int = LIMIT
    ) -> None:
        self.board, self.name, self.limit = board, board.name, limit
        self._file = flash if isinstance(flash, Path) else None
        content = _contents(board, flash)
        if boot is not None:  # what the factory programs
            content = boot.ljust(BOOT_BYTES, b"\xff") + content[BOOT_BYTES:]
        self._machine = _machine(board, content)
        self.live = self._machine.live
        self._saved = self._changes = self._machine.flash_changes
        self._dead: UserError | None = None

    def __enter__(self) -> VirtualBoard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def instructions(self) -> int:
        """Return the instructions executed since power-on."""
        return self._machine.instructions

    def flash_contents(self) -> bytes:
        """Return what the flash holds now."""
        return self._machine.flash

    def power_cycle(self, *, boot_pin: bool = False) -> None:
        """Take the power away and give it back, with the boot pin held or not."""
        self._save()
        self._machine.boot_pin(held=boot_pin)
        self._machine.power_cycle()
        self._dead = None

    def release_boot_pin(self) -> None:
        """Let the boot pin go: the next reset starts the application."""
        self._machine.boot_pin(held=False)

    def air(self, rate: int, sound: Iterator[Samples]) -> None:
        """Let the board's microphone hear `sound` at `rate` Hz; UserError when it has none.

        The sound begins when the board starts its microphone. From then on a sample comes every
        `clock_hz` / `rate` instructions, or as soon as the board rests: one that is too slow loses some.
        """
        self._machine.air(rate, sound)

    def read(self, timeout: float) -> bytes:
        """Run until the board rests and return what it sent; b"" means that nothing will come.

        Raises:
            UserError: the firmware faulted, or did not rest within `limit` instructions.
        """
        if self._dead:
            raise self._dead
        if waiting := self._machine.receive():
            return waiting
        try:
            rests = self._machine.run(self.limit, timeout)
        except UserError as error:
            self._dead = error
            raise
        if not rests:
            self._dead = link.NoAnswerError(
                f"{self.name} does not answer: {self.limit:,} instructions without rest; "
                "the firmware hangs or the model is too large to run here"
            )
            raise self._dead
        if self._machine.flash_changes == self._changes:
            self._save()  # at rest, not in the middle of an update
        self._changes = self._machine.flash_changes
        return self._machine.receive()

    def write(self, data: bytes) -> None:
        """Put `data` on the board's receive line; UserError when the firmware has faulted."""
        if self._dead:
            raise self._dead
        self._machine.send(data)

    def close(self) -> None:
        """End the emulator and save the flash if it changed."""
        self._machine.close()
        self._save()

    def _save(self) -> None:
        if self._file is None or self._machine.flash_changes == self._saved:
            return
        self._saved = self._machine.flash_changes
        try:
            atomic.write(self._file, self._machine.flash)
        except OSError:
            self._file = None  # a read-only place: this board forgets like one without flash


def _contents(board: Board, flash: bytes | Path) -> bytes:
    size = board.flash_memory.size
    if isinstance(flash, bytes):
        data = flash.ljust(size, b"\xff")
    elif flash.exists():
        data = flash.read_bytes()
    else:
        data = b"\xff" * size
    if len(data) != size:
        place = flash if isinstance(flash, Path) else "the flash"
        raise UserError(f"{place} has {len(data)} bytes, {board.name} {size}: delete it")
    return data


def _machine(board: Board, flash: bytes) -> Machine:
    if board.emulator == "qemu":
        from kit.qemu import QemuMachine

        return QemuMachine(board, flash)
    if board.emulator == "unicorn":
        from kit.unicorn_machine import UnicornMachine

        return UnicornMachine(board, flash)
    raise UserError(f"{board.name} has no emulator: name its port with --port")
