"""Another machine over the system's `ssh`: commands and files through one connection, failures in one line.

Keys, agents, host keys and jump hosts are ssh's business (`~/.ssh/config`); passwords it asks for itself when
there is a terminal.
"""

from __future__ import annotations

import io
import json
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from boards.errors import UserError
from kit.pipe_wire import PipeWire
from kit.targets import ssh_errors

CONNECT = 10  # seconds for the TCP connection and the greeting
ALIVE = 5  # seconds of silence until ssh asks whether the other end is there; given up after three
UNASKED = 30.0  # seconds to log in without a terminal
ASKED = 180.0  # seconds to type a password
SLOWEST = 50_000  # bytes a second that a transfer must reach
PROGRAMS = (b"\x7fELF", b"#!")  # files that begin so are put there executable
BEGIN = "earkit-begin"  # the line before what a command says: a login may say other things first
# Ctrl-C is ours, and ssh still may ask for passwords; it ends when we are killed.
_GUARD = (
    'trap "" INT; setpriv --pdeathsig TERM true 2>/dev/null && exec setpriv --pdeathsig TERM "$@"; exec "$@"'
)
_GUARDED = ("sh", "-c", _GUARD, "sh")


class RemoteError(UserError):
    """The machine cannot be reached or does not do what it is told."""


class LateError(RemoteError):
    """A command does not end."""


class LostError(RemoteError):
    """The connection broke while it was in use."""


@dataclass(frozen=True)
class Done:
    """A command that has ended there."""

    rc: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Return what it wrote to stdout, without blanks around it."""
        return self.out.decode("utf-8", "replace").strip()

    @property
    def words(self) -> str:
        """Return what it wrote to stderr, else to stdout, for a message."""
        return self.err.decode("utf-8", "replace").strip() or self.text

    def record(self, who: str) -> dict[str, Any]:
        """Return the JSON object that it wrote to stdout; RemoteError, naming `who`, for anything else."""
        try:
            found = json.loads(self.text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        raise RemoteError(f"{who} said {self.text[:40]!r}, no record: run `earkit flash` again")


class Remote:
    """The machine `host`: `name`, `user@name`, an alias of ~/.ssh/config, or `ssh://user@name:port`.

    A context manager. It connects at its first command, and again after the connection was lost between two.
    """

    def __init__(self, host: str) -> None:
        if not host or host.startswith("-") or any(c.isspace() for c in host):
            raise RemoteError(
                f"{host!r} is no machine: give --host as name, user@name or ssh://user@name:port"
            )
        self.host = host
        program = shutil.which("ssh")
        if program is None:
            raise RemoteError("ssh is not installed: sudo apt install openssh-client")
        self._program = program
        self._folder = tempfile.TemporaryDirectory(prefix="earkit-")  # short: it holds a socket
        self._master: subprocess.Popen[bytes] | None = None
        self._finalizer = weakref.finalize(self, lambda: None)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._finalizer()
        if self._master is not None:
            self._master.wait()
        self._folder.cleanup()

    def connect(self) -> None:
        """Log in, unless that is done; ssh itself asks for passwords where there is a terminal.

        Raises:
            RemoteError: the machine cannot be reached, is another one, or lets nobody in.
        """
        if self._master is not None and self._master.poll() is None:
            return
        socket, said = Path(self._folder.name) / "s", Path(self._folder.name) / "said"
        socket.unlink(missing_ok=True)
        terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
        batch = f"BatchMode={'no' if terminal else 'yes'}"
        command = [*_GUARDED, *self._ssh(), "-M", "-N", "-o", batch, "--", self.host]
        with said.open("wb") as errors:
            self._master = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
            )
        self._finalizer = weakref.finalize(self, self._master.kill)  # nothing stays behind, however we end
        end = time.monotonic() + (ASKED if terminal else UNASKED)
        while not socket.exists():
            if self._master.poll() is not None:
                words = said.read_text(encoding="utf-8", errors="replace")
                raise RemoteError(ssh_errors.explain(self.host, words))
            if time.monotonic() > end:
                self._finalizer()
                raise RemoteError(
                    f"{self.host}: no log-in within {ASKED if terminal else UNASKED:.0f} s: is it busy or "
                    f"stuck? See whether `ssh {self.host}` works"
                )
            time.sleep(0.02)

    def arguments(self, command: str) -> list[str]:
        """Return the program and arguments that run `command` (for `sh`) there, on the open connection."""
        self.connect()
        there = f"exec env LC_ALL=C sh -c {shlex.quote(command)}"
        return [*self._ssh(), "-o", "BatchMode=yes", "--", self.host, there]

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> Done:
        """Run `command` (for `sh`) there and return how it ended, whatever its exit status.

        Raises:
            LostError: the connection broke.
            LateError: the command did not end within `timeout` seconds.
            RemoteError: there is no connection, or no shell.
        """
        with tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            return self._run(command, file, timeout)

    def check(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> str:
        """Run `command` and return what it wrote to stdout, without blanks around it.

        Raises:
            RemoteError: as `run`, or it failed: no such program, no space, no permission.
        """
        return self._good(command, self.run(command, stdin, timeout)).text

    def record(self, command: str, timeout: float = 60.0) -> dict[str, Any]:
        """Run `command`, which prints one JSON object, and return that.

        Raises:
            RemoteError: as `check`, or what it printed is none: it was cut, or is somebody else's.
        """
        done = self._good(command, self.run(command, timeout=timeout))
        return done.record(f"{self.host}: `{_short(command)}`")

    def put(self, files: Mapping[str, bytes | Path], folder: str) -> None:
        """Put `files` (names may have folders in front) into `folder` there, relative to the home folder.

        They go in one piece to a place of their own and get their names when all have come; a file of that
        name is replaced. Programs (ELF, #!) are executable there.

        Raises:
            RemoteError: no space, no permission, the connection broke.
        """
        if not files:
            return
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(
                fileobj=packed, mode="w:gz", compresslevel=3, format=tarfile.USTAR_FORMAT
            ) as tar:
                for name, content in files.items():
                    _add(tar, name, content)
            size = packed.tell()
            packed.seek(0)
            done = self._run(_unpack(files, folder), packed, 60.0 + size / SLOWEST)
        self._good("tar", done)

    def _run(self, command: str, stdin: io.IOBase, timeout: float) -> Done:
        try:
            ended = subprocess.run(
                self.arguments(f"echo {BEGIN}\n{command}"),
                stdin=stdin.fileno(),
                capture_output=True,
                timeout=timeout,
                check=False,
                start_new_session=True,  # Ctrl-C is ours alone
            )
        except subprocess.TimeoutExpired:
            raise LateError(ssh_errors.late(self.host, _short(command), timeout)) from None
        if ended.returncode == ssh_errors.OWN and self._lost():
            words = ended.stderr.decode("utf-8", "replace")
            raise LostError(ssh_errors.lost(self.host, words))
        before, begun, out = ended.stdout.partition(f"{BEGIN}\n".encode())
        if not begun:
            words = (ended.stderr + before).decode("utf-8", "replace")
            raise RemoteError(ssh_errors.closed(self.host, words))
        return Done(ended.returncode, out, ended.stderr)

    def _good(self, command: str, done: Done) -> Done:
        if done.rc:
            raise RemoteError(ssh_errors.failed(self.host, _short(command), done.rc, done.words))
        return done

    def _lost(self) -> bool:
        """Tell whether the connection has ended, which may be noticed a moment after a command on it."""
        assert self._master is not None
        try:
            self._master.wait(1.0)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _ssh(self) -> list[str]:
        options = {
            "ControlPath": f"{self._folder.name}/s",
            "ConnectTimeout": CONNECT,
            "ServerAliveInterval": ALIVE,
            "ServerAliveCountMax": 3,
            "LogLevel": "ERROR",  # no banners
            "ClearAllForwardings": "yes",  # what the user's own sessions hold is not for us
            "RemoteCommand": "none",
            "ControlPersist": "no",
        }
        return [self._program, "-T", *(part for key in options for part in ("-o", f"{key}={options[key]}"))]


class RemoteWire(PipeWire):
    """A program on the machine that speaks the link, as a wire; closing it closes `remote` as well."""

    def __init__(self, remote: Remote, command: str) -> None:
        self._remote = remote
        super().__init__(remote.arguments(command), remote.host, self._explained)

    def close(self) -> None:
        """Let the program end, and hang up."""
        super().close()
        self._remote.close()

    def _explained(self, code: int, said: str) -> str:
        if code == ssh_errors.OWN:
            return ssh_errors.lost(self.name, said)
        return ssh_errors.failed(self.name, "the program", code, said)


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    """Add a file to `tar`, the same whenever and by whomever it is sent."""
    entry = tarfile.TarInfo(name)
    if isinstance(content, Path):
        entry.size = content.stat().st_size
        with content.open("rb") as file:
            entry.mode = _mode(file.read(4))
            file.seek(0)
            tar.addfile(entry, file)
    else:
        entry.size, entry.mode = len(content), _mode(content[:4])
        tar.addfile(entry, io.BytesIO(content))


def _mode(start: bytes) -> int:
    return stat.S_IRUSR | stat.S_IWUSR | (stat.S_IXUSR if start.startswith(PROGRAMS) else 0)


def _unpack(files: Mapping[str, bytes | Path], folder: str) -> str:
    """Return the shell command that unpacks `files` from stdin into `folder`."""
    place = shlex.quote(folder)
    folders = sorted({str(PurePosixPath(name).parent) for name in files} - {"."})
    moves = [f'mv -f "$t"/{shlex.quote(name)} {place}/{shlex.quote(name)}' for name in files]
    made = [f"mkdir -p {place}/{shlex.quote(name)}" for name in folders]
    steps = [
        "set -e; umask 077",
        f"mkdir -p {place}; t=$(mktemp -d {place}/.put-XXXXXX)",
        "trap 'rm -rf \"$t\"' EXIT; trap 'exit 1' HUP INT TERM",
        'tar -xzf - -C "$t"; sync',
        *made,
        *moves,
    ]
    return "\n".join(steps)


def _short(command: str) -> str:
    """Return the start of a command, for a message."""
    line = " ".join(command.split())
    return line if len(line) <= 60 else line[:59] + "…"
