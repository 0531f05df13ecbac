"""Serial ports: found by path, USB id or serial number, opened for us alone, their failures told apart."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from boards import Board, atomic
from kit import port_errors
from kit.link import GoneError, LinkError, NoAnswerError

EMULATOR = "emulator"  # the port of a real board that an emulator models
REMOTE = "rfc2217://"
APPEARS = 10.0  # seconds until the port of a board that was reset is there again
LOOKS = 0.1  # seconds between two looks
PATIENCE = 5  # seconds that a port may take nothing


class PortError(LinkError):
    """The serial port cannot be opened."""


def ports() -> dict[str, str]:
    """Return this machine's serial ports: device → `vvvv:pppp` of its USB adapter, "" without one."""
    return {
        port.device: f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None else ""
        for port in sorted(_listed(), key=lambda port: port.device)
    }


def serial_numbers() -> dict[str, str]:
    """Return this machine's serial ports: device → serial number of its USB adapter, "" without one."""
    return {port.device: port.serial_number or "" for port in _listed()}


def _listed() -> list[Any]:
    """Return pyserial's list of ports; it stumbles over a port that vanishes while it looks."""
    from serial.tools import list_ports

    for _ in range(3):
        with suppress(OSError, TypeError, ValueError):
            return list(list_ports.comports())
    return []


def which(name: str) -> str:
    """Return the port that `name` means: a path or URL as it is, else by USB serial number or `vvvv:pppp`.

    Of the two names that macOS gives a port the one is taken that does not wait for a carrier.

    Raises:
        PortError: no port has that, or more than one.
    """
    if port_errors.SYSTEM == "darwin" and name.startswith("/dev/tty."):
        return name.replace("/dev/tty.", "/dev/cu.", 1)
    if name == EMULATOR or re.search(r"[/\\]", name) or name in (seen := ports()):
        return name
    numbers = serial_numbers()
    fitting = [port for port in seen if name.lower() in (seen[port], numbers.get(port, "").lower())]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise PortError(f"{len(fitting)} ports have {name} ({', '.join(fitting)}): choose one by its path")
    raise PortError(
        f"{name}: no such port, USB serial number or id ({_listing(seen)}): plug the board in, or look again"
    )


def memory() -> Path:
    """Return the file that keeps the USB serial number on which each board answered last."""
    return Path(platformdirs.user_config_dir("earkit")) / "ports.json"


def _remembered() -> dict[str, str]:
    try:
        known = json.loads(memory().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(board: Board, port: str) -> None:
    """Keep the serial number of the port on which a board has answered; without one nothing is kept."""
    number, known = serial_numbers().get(port), _remembered()
    if number and known.get(board.name) != number:
        with suppress(OSError):  # a convenience: its loss changes no result
            memory().parent.mkdir(parents=True, exist_ok=True)
            atomic.write(memory(), json.dumps({**known, board.name: number}, indent=1).encode())


def find(board: Board) -> str:
    """Return the port on which the board answered last, else the only one whose USB id is one of its.

    Raises:
        PortError: there is none, or more than one.
    """
    if kept := _remembered().get(board.name):
        again = [port for port, number in serial_numbers().items() if number == kept]
        if len(again) == 1:
            return again[0]
    seen = ports()
    wanted = {identifier.lower() for identifier in board.serial.vid_pid}
    fitting = [device for device, identifier in seen.items() if identifier in wanted]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise PortError(
            f"{len(fitting)} boards may be {board.name} ({', '.join(fitting)}): choose one with --port"
        )
    lacking = port_errors.portless(wanted, seen.values())
    cure = "plug it in, or name its port with --port"
    if lacking:
        cure = "{} is on the USB without a port, {}".format(*lacking)
    raise PortError(f"no {board.name} found on a serial port ({_listing(seen)}): {cure}")


def opened(name: str, lines: Mapping[str, bool], **settings: Any) -> Any:
    """Return the pyserial port (or URL) `name`, open for us alone; `lines` are set as it opens.

    Raises:
        PortError: it is missing, busy, or may not be opened.
    """
    import serial

    try:
        patience = None if name.startswith(REMOTE) else PATIENCE  # pyserial has none there
        port = serial.serial_for_url(name, do_not_open=True, write_timeout=patience, **settings)
        if port.__class__.__module__.startswith("serial.serial"):
            port.exclusive = True
        for line, asserted in lines.items():
            setattr(port, line, asserted)
        port.open()
        port.reset_input_buffer()
    except _failures(ValueError) as error:
        seen = ports()
        vendor = seen.get(name, "").partition(":")[0]
        raise PortError(port_errors.explain(name, error, _listing(seen), vendor)) from None
    return port


def _failures(more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what a port raises: OSError, `more`, and what a terminal that has gone says of its settings."""
    try:
        from termios import error
    except ImportError:  # Windows
        return (OSError, more)
    return (OSError, more, error)


def again(port: str, number: str) -> str:
    """Return the name that a port has now: by its USB serial number, without one the name that it had.

    Raises:
        PortError: no port has that number, or several have.
    """
    if not number:
        return port
    fitting = sorted(name for name, found in serial_numbers().items() if found == number)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise PortError(
            f"it came back twice ({', '.join(fitting)} have USB serial number {number}): unplug one"
        )
    raise PortError(
        f"no port has its USB serial number {number}: unplug it, plug it in and repeat the command"
    )


class SerialWire:
    """A serial port (or a pyserial URL such as socket://host:port) as a wire.

    Raises:
        PortError: it is missing, busy, or may not be opened.
    """

    live = True

    def __init__(self, port: str | None, board: Board) -> None:
        self.name, self.baud = which(port) if port else find(board), board.serial.baud
        self._lines = board.stm32_rom.idle if board.stm32_rom and board.stm32_rom.same_port else {}
        numbers = serial_numbers()
        number = numbers.get(self.name, "")
        self._number = number if list(numbers.values()).count(number) == 1 else ""  # shared, it tells nothing
        self._open()

    def _open(self) -> None:
        self._port = opened(self.name, self._lines, baudrate=self.baud, timeout=0)

    def come_back(self) -> None:
        """Open the port again after the board took it along in a reset, whatever its name is now.

        Raises:
            GoneError: it does not come back, comes back twice, or cannot be opened.
        """
        was, deadline = self.name, time.monotonic() + APPEARS
        self.close()
        while True:
            try:
                self.name = again(was, self._number)
                return self._open()
            except PortError as error:  # its permissions may come a moment after it
                if time.monotonic() > deadline:
                    raise GoneError(
                        f"{was} went away when the board was reset, {APPEARS:.0f} s ago: {error}"
                    ) from None
            time.sleep(LOOKS)

    def read(self, timeout: float) -> bytes:
        """Return what has come, waiting at most `timeout` seconds for it; GoneError if unplugged."""
        try:
            if self.name.startswith(REMOTE):
                return self._read_remote(timeout)
            self._port.timeout = timeout
            first = self._port.read(1)
            self._port.timeout = 0
            return bytes(first + self._port.read(4096)) if first else b""
        except _failures(TypeError) as error:
            raise self._gone(error) from None

    def _read_remote(self, timeout: float) -> bytes:
        """Do the same where every new timeout would be told to the far end first."""
        end = time.monotonic() + timeout
        while not self._port.in_waiting and time.monotonic() < end:
            time.sleep(0.001)
        return bytes(self._port.read(self._port.in_waiting))

    def write(self, data: bytes) -> None:
        """Send all of `data`; GoneError if unplugged, NoAnswerError if the board's USB takes nothing."""
        import serial

        try:
            self._port.write(data)
        except serial.SerialTimeoutException:
            raise NoAnswerError(
                f"{self.name} has taken nothing for {PATIENCE} s: its firmware hangs; unplug it, plug it in "
                "again and repeat the command"
            ) from None
        except OSError as error:
            raise self._gone(error) from None

    def close(self) -> None:
        """Give the port back."""
        with suppress(OSError):  # it went away
            self._port.close()

    def _gone(self, error: Exception) -> GoneError:
        return GoneError(
            f"{self.name} went away ({error}): check the cable, plug it in again and repeat the command"
        )


def _listing(seen: dict[str, str]) -> str:
    return "ports here: " + (
        ", ".join(f"{device} {identifier}".strip() for device, identifier in seen.items()) or "none"
    )
