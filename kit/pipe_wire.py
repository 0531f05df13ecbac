"""A program as a wire: what it reads on stdin and says on stdout is the line, its end one clear error."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from kit.link import GoneError, LinkError

CHUNK = 65536  # bytes
WRITE_PATIENCE = 10.0  # seconds that a program may leave what it was sent unread
END_PATIENCE = 2.0  # seconds until a program that should end is made to
SAID = 2000  # bytes of what it said last on stderr, of which messages show a line


def ended(code: int, said: str) -> str:
    """Return in words how a program ended, from its exit code (below 0: a signal) and its last line."""
    if code < 0:
        with suppress(ValueError):
            name = signal.Signals(-code).name
            cure = ": it was made for another processor" if -code == signal.SIGILL else ""
            return f"ended by {name}{cure}"
    return f"ended with exit code {code}" + (f": {said}" if said else "")


class PipeWire:
    """A program that speaks the link on stdin and stdout, as a wire; POSIX only.

    Args:
        command: the program and its arguments; no shell is between.
        name: in messages; else the program's.
        explain: turns an exit code and the last line on stderr into what is said of a program that has gone,
            the cure included; `ended` by default.

    Raises:
        LinkError: the program cannot be started.
    """

    live = True

    def __init__(
        self,
        command: Sequence[str],
        name: str | None = None,
        explain: Callable[[int, str], str] | None = None,
    ) -> None:
        self.name = name or os.path.basename(command[0])
        self._explain = explain or (lambda code, said: f"{self.name} {ended(code, said)}")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the program)
        try:
            self._program = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us, who end it in order
            )
        except OSError as error:
            self._errors.close()
            raise LinkError(f"{command[0]} cannot be started: {_reason(error)}") from None
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._in, self._out = self._program.stdin.fileno(), self._program.stdout.fileno()
        os.set_blocking(self._in, False)
        self._lost: GoneError | None = None

    def read(self, timeout: float) -> bytes:
        """Return what has come, waiting at most `timeout` seconds; GoneError when the program ended."""
        if self._lost:
            raise self._lost
        if not select.select([self._out], [], [], max(timeout, 0))[0]:
            return b""
        if data := os.read(self._out, CHUNK):
            return data
        raise self._gone()

    def write(self, data: bytes) -> None:
        """Send all of `data`; GoneError when the program ended, or leaves it unread."""
        if self._lost:
            raise self._lost
        view, end = memoryview(data), time.monotonic() + WRITE_PATIENCE
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                if not select.select([], [self._in], [], max(end - time.monotonic(), 0))[1]:
                    raise GoneError(
                        f"{self.name} has read nothing for {WRITE_PATIENCE:.0f} s: is it stopped?"
                    ) from None
            except OSError:
                raise self._gone() from None

    def close(self) -> None:
        """Let the program end, and make it end if it does not."""
        self._end()
        self._errors.close()

    def _end(self) -> int:
        """Return the exit code of a program whose pipes are no longer used."""
        for pipe in (self._program.stdin, self._program.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        for stop in (self._program.terminate, self._program.kill):
            with suppress(subprocess.TimeoutExpired):
                return self._program.wait(END_PATIENCE)
            stop()
        return self._program.wait()

    def _gone(self) -> GoneError:
        code = self._end()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - SAID))
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        self._errors.close()
        self._lost = GoneError(self._explain(code, said))
        return self._lost


def _reason(error: OSError) -> str:
    """Return why a program did not start, and the cure."""
    if error.errno == errno.ENOENT:
        return "no such program: is it installed, and its path right?"
    if error.errno == errno.EACCES:
        return "no permission: `chmod +x` it, or copy it to a file system that lets programs run"
    if error.errno == errno.ENOEXEC:
        return "it was made for another machine: compile for this one with --board"
    return str(error.strerror)
