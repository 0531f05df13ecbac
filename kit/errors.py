"""The one border where foreign errors become a line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import select
import sys
import traceback
from collections.abc import Callable

from boards.errors import UserError

DONE, MENDABLE, USAGE, BUG = 0, 1, 2, 70
INTERRUPTED = 128 + 2  # as a shell reports SIGINT
PIPE_CLOSED = 128 + 13  # as a shell reports SIGPIPE

EXTRAS = {  # import name -> extra that brings it
    "ai_edge_quantizer": "train",
    "keras": "train",
    "ml_dtypes": "train",
    "onnx": "train",
    "onnxruntime": "train",
    "safetensors": "train",
    "tensorflow": "train",
    "tf2onnx": "train",
    "torch": "torch",
    "tinygrad": "jetson",
    "adbutils": "phone",
    "coremltools": "coreml",
    "websockets": "phone",
    "edgeimpulse": "edge-impulse",
    "edge_impulse_linux": "edge-impulse",
    "pyocd": "swd",
    "optuna": "cluster",
    "ray": "cluster",
}
DIALOUT = "sudo usermod -aG dialout $USER, then log in again"
OS_ERRORS = {  # errno -> what is wrong and the cure; the name of the file goes in front
    errno.EACCES: "no permission; change its mode or owner, or choose another place",
    errno.EPERM: "not permitted; change its mode or owner, or choose another place",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.ENOENT: "no such file or folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EISDIR: "is a folder, a file is needed",
    errno.EEXIST: "exists already",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EMFILE: "too many open files; raise `ulimit -n`",
    errno.EBUSY: "busy: another program uses it; close that one",
    errno.ENODEV: "no such device; is it still plugged in?",
    errno.ENXIO: "no such device; is it still plugged in?",
    errno.EIO: "input/output error: the device went away or the disk fails",
}


def border(verb: str, action: Callable[[], int]) -> int:
    """Run `action` and return its exit code; an error becomes one line on stderr and 1, 70, 130 or 141."""
    try:
        code = action()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _say("interrupted; nothing half-written was left, the same command starts again", INTERRUPTED)
    except BrokenPipeError:
        if _stdout_closed():
            return PIPE_CLOSED
        return _say("the other end of a pipe went away; run the same command again", MENDABLE)
    except Exception as error:
        line = explain(verb, error)
        if line is not None:
            return _say(line, MENDABLE)
        traceback.print_exc()
        return _say(
            "this is a bug in earkit. Please report it with the lines above, the command, "
            "and what `earkit doctor --json` prints",
            BUG,
        )


def explain(verb: str, error: BaseException) -> str | None:
    """Return the one line for an error that the user can mend, None for a bug of ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return _missing(verb, (error.name or "").partition(".")[0])
    if isinstance(error, MemoryError):
        return "out of memory; close other programs, or use a smaller --size or fewer --samples"
    if isinstance(error, OSError):
        return _os_line(error)
    return None


def _missing(verb: str, name: str) -> str | None:
    extra = EXTRAS.get(name)
    if extra is None:
        return None
    return f"earkit {verb} needs the {extra!r} extra ({name} is missing): pip install 'earkit[{extra}]'"


def _os_line(error: OSError) -> str | None:
    serial = sys.modules.get("serial")
    is_serial = serial is not None and isinstance(error, serial.SerialException)
    what = OS_ERRORS.get(error.errno or 0)
    if is_serial and error.errno in (errno.EACCES, errno.EPERM):
        return f"{_port(error)}no permission for the serial port; {DIALOUT}"
    if error.filename is not None and what is not None:
        return f"{os.fsdecode(error.filename) if not isinstance(error.filename, int) else 'file'}: {what}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE) or (is_serial and what):
        return what
    if is_serial:
        return f"serial port: {error}; is the board plugged in, and no other program on its port?"
    return None


def _port(error: OSError) -> str:
    return f"{error.filename}: " if error.filename else ""


def _stdout_closed() -> bool:
    """Tell whether nobody reads stdout any more; if so, point it elsewhere so that exit stays quiet."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # captured: not a file at all
        return False
    poll = select.poll()
    poll.register(number, 0)
    closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return closed


def _say(line: str, code: int) -> int:
    print("earkit: " + " ".join(line.split()), file=sys.stderr, flush=True)
    return code
