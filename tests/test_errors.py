"""The border: each foreign error becomes one line and the right exit code; bugs keep their traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import serial

from boards.errors import UserError
from kit import errors


def raising(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


def os_error(number: int, filename: str | None = "/there/x") -> OSError:
    return OSError(number, os.strerror(number), filename)


MENDABLE = [
    (UserError("model needs 312 KB RAM: use --size micro"), "needs 312 KB"),
    (UserError("two\nlines"), "two lines"),
    (os_error(errno.EACCES), "/there/x: no permission"),
    (os_error(errno.EPERM), "/there/x: not permitted"),
    (os_error(errno.EROFS), "/there/x: the file system is read-only"),
    (os_error(errno.ENOSPC), "/there/x: the disk is full"),
    (os_error(errno.ENOSPC, None), "the disk is full"),
    (os_error(errno.EDQUOT), "quota"),
    (os_error(errno.ENOENT), "/there/x: no such file"),
    (os_error(errno.ENOTDIR), "is a file, not a folder"),
    (os_error(errno.EISDIR), "is a folder"),
    (os_error(errno.ENAMETOOLONG), "too long"),
    (os_error(errno.EMFILE, None), "ulimit"),
    (ModuleNotFoundError("No module named 'keras'", name="keras"), "earkit verb needs the 'train' extra"),
    (ModuleNotFoundError("…", name="tensorflow.lite"), "pip install 'earkit[train]'"),
    (ModuleNotFoundError("…", name="pyocd"), "pip install 'earkit[swd]'"),
    (MemoryError(), "out of memory"),
    (serial.SerialException(errno.EACCES, "could not open port"), "dialout"),
    (serial.SerialException("device disconnected or multiple access on port?"), "plugged in"),
]


@pytest.mark.parametrize(("error", "text"), MENDABLE, ids=lambda value: str(value)[:40])
def test_mendable_error_is_one_line(
    error: BaseException, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.border("verb", raising(error)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("earkit: ")
    assert text in line


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        AssertionError(),
        RecursionError(),
        ModuleNotFoundError("No module named 'kit.gone'", name="kit.gone"),
        OSError("without a number"),
        os_error(errno.ENOENT, None),
        OSError(errno.EINVAL, "Invalid argument", "/there/x"),
    ],
    ids=repr,
)
def test_bug_shows_its_traceback_and_how_to_report(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.border("verb", raising(error)) == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" in err
    assert type(error).__name__ in err
    assert "report" in err.splitlines()[-1]
    assert "earkit doctor --json" in err.splitlines()[-1]


def test_ctrl_c_is_130_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.border("verb", raising(KeyboardInterrupt())) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


def test_exit_code_of_the_action_is_kept() -> None:
    assert errors.border("verb", lambda: 3) == 3


def test_every_extra_is_one_of_the_distribution() -> None:
    from importlib import metadata

    extras = metadata.metadata("earkit").get_all("Provides-Extra")
    assert extras is not None
    assert set(errors.EXTRAS.values()) <= set(extras)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this machine")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_full_disk_under_stdout_is_one_line(options: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kit", "boards", *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "disk is full" in line


def test_reader_that_goes_away_makes_no_noise() -> None:
    code = "from kit.errors import border; raise SystemExit(border('v', lambda: print('x' * 1_000_000) or 0))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_make_no_noise(closed: str) -> None:
    command = ["bash", "-c", f'"$0" -m kit boards {closed}', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("number", "code", "count"), [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 0)])
def test_signals_unwind_and_leave_nothing(number: int, code: int, count: int, tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from kit import __main__\n"
        "from kit.verbs import boards as verb\n"
        "from pathlib import Path\n"
        "from boards import atomic\n"
        "def slow(_):\n"
        "    with atomic.replacing(Path('y.npy')) as part:\n"
        "        part.write_bytes(b'half')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "verb.run = slow\n"
        "sys.argv = ['earkit', 'boards']\n"
        "sys.exit(__main__.main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        process.send_signal(number)
        assert process.wait(30) == code
        assert len(process.stderr.read().splitlines()) == count
    assert list(tmp_path.iterdir()) == []
