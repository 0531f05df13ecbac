"""Boards that QEMU models, each in a process of its own, UART and monitor on sockets."""

from __future__ import annotations

import json
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boards import Board
from boards.errors import UserError
from firmware.compiler.link_script import HANDOVER_BYTES

if TYPE_CHECKING:
    from kit.audio import Samples

PROGRAM = "qemu-system-arm"
STAY, FAULT = 0x59415453, 0x544C4146  # as in firmware/ports/port.h
START_SECONDS = 20.0
CHUNK = 1 << 16


class QemuMachine:
    """One board. A reset of the board ends the emulator, which starts again with the flash as it was left.

    Raises:
        UserError: QEMU is not installed or does not start.
    """

    live = True

    def __init__(self, board: Board, flash: bytes) -> None:
        self.board, self.flash, self.flash_changes = board, flash, 0
        found = shutil.which(PROGRAM)
        if found is None:
            raise UserError(
                f"{board.name} needs QEMU, which is not installed: sudo apt install qemu-system-arm"
            )
        self._program = found
        self._folder = tempfile.TemporaryDirectory(prefix="earkit-qemu-")
        self._place = Path(self._folder.name)
        self._handover = board.ram_memory.origin + board.ram_memory.size - HANDOVER_BYTES
        self._letter = bytes(HANDOVER_BYTES)
        self._said_before = b""  # by a board that has reset itself since
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self._end()
            self._folder.cleanup()
            raise

    @property
    def instructions(self) -> int:
        """Raise: only the board itself counts here."""
        raise UserError(f"{self.board.name} counts instructions only on the board: use `earkit profile`")

    def boot_pin(self, held: bool) -> None:
        """Leave the letter that keeps the bootloader, or take it away; heeded at the next power-on."""
        self._letter = struct.pack("<I", STAY if held else 0).ljust(HANDOVER_BYTES, b"\0")

    def power_cycle(self) -> None:
        """Start again with RAM cleared."""
        self._keep_flash()
        self._end()
        self._start()

    def air(self, _rate: int, _sound: Iterator[Samples]) -> None:
        """Raise: there is no microphone."""
        raise UserError(f"{self.board.name} has no microphone: stream the host's with --source mic")

    def send(self, data: bytes) -> None:
        """Put `data` on the receive line."""
        try:
            self._uart.sendall(data)
        except OSError as error:
            raise self._gone(error) from None

    def receive(self) -> bytes:
        """Return what the board has sent."""
        said, self._said_before = self._said_before, b""
        return said + self._waiting()

    def _waiting(self) -> bytes:
        try:
            return self._uart.recv(CHUNK) if select.select([self._uart], [], [], 0)[0] else b""
        except OSError as error:
            raise self._gone(error) from None

    def run(self, _limit: int, timeout: float) -> bool:
        """Wait at most `timeout` seconds for bytes; start the board again when it has reset itself.

        Raises:
            UserError: the firmware crashed, or the emulator ended.
        """
        end = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([self._uart, self._monitor], [], [], max(end - time.monotonic(), 0))
            if self._monitor in ready and any(event.get("event") == "SHUTDOWN" for event in self._events()):
                self._restart()
            elif self._uart in ready or not ready:
                return True

    def close(self) -> None:
        """End the emulator; `flash` keeps its last contents."""
        self._keep_flash()
        self._end()
        self._folder.cleanup()

    def _start(self) -> None:
        sockets = {name: self._listen(name) for name in ("uart", "monitor")}
        (self._place / "flash").write_bytes(self.flash)
        (self._place / "letter").write_bytes(self._letter)
        self._letter = bytes(HANDOVER_BYTES)
        command = [
            *(self._program, "-M", self.board.machine, "-display", "none", "-nodefaults"),
            *("-icount", "shift=5,sleep=off", "-action", "reboot=shutdown,shutdown=pause"),
            *("-chardev", f"socket,id=uart,path={self._place}/uart", "-serial", "chardev:uart"),
            *(
                "-chardev",
                f"socket,id=monitor,path={self._place}/monitor",
                "-mon",
                "chardev=monitor,mode=control",
            ),
            *(
                "-device",
                f"loader,file={self._place}/flash,addr={self.board.flash_memory.origin},force-raw=on",
            ),
            *("-device", f"loader,file={self._place}/letter,addr={self._handover},force-raw=on"),
        ]
        errors = (self._place / "errors").open("wb")
        with errors:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        weakref.finalize(self, self._process.kill)  # nothing goes on without us, whatever ends this program
        self._uart, self._monitor = (self._accept(sockets[name]) for name in ("uart", "monitor"))
        self._rest = b""
        self._command("qmp_capabilities")

    def _listen(self, name: str) -> socket.socket:
        path = self._place / name
        path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(path))
        server.listen(1)
        return server

    def _accept(self, server: socket.socket) -> socket.socket:
        with server:
            server.settimeout(0.1)
            end = time.monotonic() + START_SECONDS
            while time.monotonic() < end and self._process is not None and self._process.poll() is None:
                try:
                    return server.accept()[0]
                except TimeoutError:
                    continue
        raise UserError(
            f"{PROGRAM} did not start {self.board.machine} ({self._said()}): update QEMU to 7.2 or later"
        )

    def _said(self) -> str:
        lines = (self._place / "errors").read_text(errors="replace").strip().splitlines()
        return next(
            (line for line in lines if "fatal" in line or "rror" in line),
            lines[-1] if lines else "no message",
        )

    def _events(self) -> list[dict[str, Any]]:
        try:
            data = self._monitor.recv(CHUNK)
        except OSError as error:
            raise self._gone(error) from None
        if not data:
            raise self._gone(ConnectionError("monitor closed"))
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]

    def _command(self, name: str, **arguments: object) -> None:
        try:
            self._monitor.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        except OSError as error:
            raise self._gone(error) from None
        while True:
            for message in self._events():
                if "return" in message:
                    return
                if "error" in message:
                    raise UserError(f"{PROGRAM} refused {name}: {message['error'].get('desc')}")

    def _memory(self, address: int, size: int) -> bytes:
        target = self._place / "dump"
        self._command("memsave", val=address, size=size, filename=str(target))
        return target.read_bytes()

    def _keep_flash(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        try:
            self._command("stop")
        except UserError:  # it died a moment ago: what it held is lost
            return
        content = self._memory(self.board.flash_memory.origin, self.board.flash_memory.size)
        self.flash_changes += content != self.flash
        self.flash = content

    def _restart(self) -> None:
        self._said_before += self._waiting()
        self._keep_flash()
        self._letter = self._memory(self._handover, HANDOVER_BYTES)
        self._end()
        magic, where, address = struct.unpack_from("<III", self._letter)
        self._start()
        if magic == FAULT:
            at = f", address {address:#010x}" if address else ""
            raise UserError(
                f"{self.board.name} crashed at PC {where:#010x}{at}; reset it, or compile and flash again"
            )

    def _end(self) -> None:
        if self._process is None:
            return
        for line in (getattr(self, "_uart", None), getattr(self, "_monitor", None)):
            if line is not None:
                line.close()
        self._process.kill()
        self._process.wait()
        self._process = None

    def _gone(self, error: Exception) -> UserError:
        return UserError(
            f"{PROGRAM} ended under {self.board.name} ({self._said()}; {error}): repeat the command"
        )
