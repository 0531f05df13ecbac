"""Android phones through adb: found, asked and fed with adbutils, their failures in one line."""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boards.errors import UserError
from kit.link import GoneError
from kit.pipe_wire import ended
from kit.targets.ssh import Done

FRAME = struct.Struct("<BI")  # of the shell protocol, second version: what it is, bytes that follow
STDIN, STDOUT, STDERR, EXIT, END_OF_INPUT = range(5)
PIECE = 16384  # bytes of a frame
CHUNK = 65536
WRITE_PATIENCE = 10.0  # seconds that the phone may leave what it was sent unread
SILENCE = 20  # seconds until an adb server, or a phone behind it, that says and takes nothing is given up
ANSWER = 30.0  # seconds that a command may take
SAID = 2000  # bytes of stderr that are kept
PLUG = "plug it in, allow USB debugging (Settings, Developer options), and see `adb devices`"


class PhoneError(UserError):
    """The phone is not there, or does not do what it is told."""


class Phone:
    """The phone `serial`, ready for commands."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.serial = str(device.serial)

    def run(self, command: str, timeout: float = ANSWER) -> Done:
        """Run `command` in the phone's shell and return how it ended.

        Raises:
            PhoneError: it took too long, or the phone went away.
        """
        wire, out, limit = self.start(command), b"", time.monotonic() + timeout
        try:
            wire.end_input()
            while wire.exit_code is None:
                left = limit - time.monotonic()
                if left <= 0:
                    raise PhoneError(
                        f"{self.serial}: `{command[:60]}` did not end within {timeout:.0f} s: "
                        "unlock the phone, then try again"
                    )
                out += wire.next(left)
            return Done(wire.exit_code, out, wire.said)
        except GoneError as error:
            raise PhoneError(str(error)) from None
        finally:
            wire.close()

    def check(self, command: str, timeout: float = ANSWER) -> str:
        """Run `command` and return what it wrote to stdout, without blanks; PhoneError when it fails."""
        done = self.run(command, timeout)
        if done.rc:
            raise PhoneError(
                f"{self.serial}: `{command[:60]}` {ended(done.rc, done.words)[:200]}: try it in `adb shell`"
            )
        return done.text

    def start(self, command: str) -> ShellWire:
        """Start `command` and return the wire to its stdin and stdout."""
        with told(self.serial):
            connection = self._device.open_transport(timeout=WRITE_PATIENCE)
            connection.send_command(f"shell,v2,raw:{command}")
            connection.check_okay()
        return ShellWire(connection.conn, self.serial)

    def push(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Put `data` at `path` there, through a name beside it: what was there stays until all has come.

        Raises:
            PhoneError: no space, no permission, or the phone went away.
        """
        folder, part = path.rpartition("/")[0], f"{path}.part"
        self.check(f"mkdir -p {shlex.quote(folder)}")
        try:
            with told(self.serial):
                self._device.sync.push(data, part, mode, check=True)
        except PhoneError as error:
            raise self._full(folder, part, len(data)) or error from None
        self.check(f"chmod {mode:o} {shlex.quote(part)} && mv -f {shlex.quote(part)} {shlex.quote(path)}")

    def _full(self, folder: str, part: str, size: int) -> PhoneError | None:
        """Remove what came of a file; return the error that says so if there is no room for it."""
        try:
            self.run(f"rm -f {shlex.quote(part)}")
            words = self.run(f"df -k {shlex.quote(folder)} | tail -n 1").text.split()
        except PhoneError:
            return None
        told = words[3] if len(words) > 3 else ""
        free = int(told) << 10 if re.fullmatch(r"[0-9]{1,15}", told) else size
        if free >= size:
            return None
        return PhoneError(
            f"{self.serial}: no space: {free:,} bytes are free in {folder}, {size:,} are needed: "
            "remove something there"
        )


class ShellWire:
    """A command on a phone as a wire: frames of the shell protocol around its three streams."""

    live = True

    def __init__(self, connection: socket.socket, serial: str) -> None:
        self.name = serial
        self.exit_code: int | None = None
        self.said = b""
        self._socket, self._held = connection, b""
        self._socket.settimeout(WRITE_PATIENCE)

    def read(self, timeout: float) -> bytes:
        """Return what the command wrote to stdout, waiting at most `timeout` s; GoneError at its end."""
        data = self.next(timeout)
        if data or self.exit_code is None:
            return data
        lines = self.said.decode("utf-8", "replace").strip().split("\n")
        raise GoneError(f"{self.name}: the program {ended(_signed(self.exit_code), lines[-1])}")

    def next(self, timeout: float) -> bytes:
        """Return what the command wrote to stdout; nothing when it ended: see `exit_code`."""
        limit, out = time.monotonic() + timeout, b""
        while not out and self.exit_code is None:
            out = self._frames()
            if out or self.exit_code is not None:
                break
            if not select.select([self._socket], [], [], max(limit - time.monotonic(), 0))[0]:
                break
            try:
                data = self._socket.recv(CHUNK)
            except OSError:
                data = b""
            if not data:
                raise GoneError(f"{self.name} has gone: is it still plugged in, and unlocked?")
            self._held += data
        return out

    def write(self, data: bytes) -> None:
        """Send all of `data` to the command's stdin."""
        for at in range(0, len(data), PIECE):
            self._send(STDIN, data[at : at + PIECE])

    def end_input(self) -> None:
        """Let the command read the end of its stdin."""
        self._send(END_OF_INPUT, b"")

    def close(self) -> None:
        """Hang up: the phone ends the command."""
        self._socket.close()

    def _send(self, kind: int, data: bytes) -> None:
        try:
            self._socket.sendall(FRAME.pack(kind, len(data)) + data)
        except OSError:
            raise GoneError(f"{self.name} has gone: is it still plugged in, and unlocked?") from None

    def _frames(self) -> bytes:
        """Return the stdout in the whole frames that are held."""
        out = b""
        while len(self._held) >= FRAME.size:
            kind, size = FRAME.unpack_from(self._held)
            if len(self._held) < FRAME.size + size:
                break
            data = self._held[FRAME.size : FRAME.size + size]
            self._held = self._held[FRAME.size + size :]
            if kind == STDOUT:
                out += data
            elif kind == STDERR:
                self.said = (self.said + data)[-SAID:]
            elif kind == EXIT:
                self.exit_code = data[0] if data else 255
        return out


def find(serial: str | None = None) -> Phone:
    """Return the phone `serial`, else that of $ANDROID_SERIAL, else the only one.

    Raises:
        PhoneError: there is none, there are several, it is locked, offline or not allowed.
        ModuleNotFoundError: adbutils is not installed.
    """
    import adbutils

    client = _client()
    try:
        listed = {one.serial: one.state for one in client.list()}
    except BlockingIOError:
        raise PhoneError(
            f"the adb server at {client.host}:{client.port} has said nothing for {SILENCE} s: "
            "`adb kill-server`, then run this again"
        ) from None
    except (adbutils.AdbError, OSError, subprocess.SubprocessError, ValueError):
        raise PhoneError(
            f"no adb server at {client.host}:{client.port}, and none could be started: install Android's "
            "platform tools (sudo apt install adb), then `adb start-server`"
        ) from None
    chosen = serial or os.environ.get("ANDROID_SERIAL")
    if chosen is None:
        ready = [name for name, state in listed.items() if state == "device"]
        if len(ready) > 1:
            raise PhoneError(f"several phones ({', '.join(sorted(ready))}): choose one with --port SERIAL")
        if not listed:
            raise PhoneError(f"no phone: {PLUG}")
        chosen = ready[0] if ready else sorted(listed)[0]
    if chosen not in listed:
        known = f"adb knows {', '.join(sorted(listed))}" if listed else "adb knows none"
        raise PhoneError(f"no phone {chosen}, {known}: {PLUG}")
    if (state := listed[chosen]) != "device":
        raise PhoneError(f"{chosen} is {state}: {_CURES.get(state, 'start Android on it')}")
    return Phone(client.device(serial=chosen))


def _client() -> Any:
    """Return adbutils' client, made to wait SILENCE at most.

    By the system's own clock: adbutils takes every send for whole, which with Python's timeouts it is not.
    """
    import adbutils

    client = adbutils.AdbClient()
    connect = client.make_connection

    def patient(timeout: float | None = None) -> Any:
        connection = connect(timeout)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.conn.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", SILENCE, 0))
        return connection

    client.make_connection = patient
    return client


@contextmanager
def told(serial: str) -> Iterator[None]:
    """Turn what adbutils raises into a PhoneError."""
    from adbutils import AdbError

    try:
        yield
    except BlockingIOError:
        raise PhoneError(
            f"{serial} has said nothing for {SILENCE} s: is it asleep? Unlock it, then try again"
        ) from None
    except (AdbError, OSError, EOFError, struct.error) as error:
        words = " ".join(str(error).split())[:200]
        if "not found" in words or "offline" in words or not words:
            raise PhoneError(f"{serial} has gone: is it still plugged in, and unlocked?") from None
        raise PhoneError(f"{serial}: adb says {words!r}: unplug the phone, plug it in again") from None


def _signed(code: int) -> int:
    """Return a shell's exit code with signals below 0, as Python has them."""
    return 128 - code if 128 < code < 160 else code


_CURES = {
    "unauthorized": "unlock it and allow USB debugging for this computer",
    "offline": "unplug it and plug it in again, or `adb reconnect`",
    "no permissions": "sudo usermod -aG plugdev $USER, then log in again",
    "recovery": "restart it into Android",
    "bootloader": "restart it into Android",
    "sideload": "restart it into Android",
}
