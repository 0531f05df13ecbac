"""Programs as wires: their output comes, their end is one error that says how they ended."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from boards.errors import UserError
from kit import pipe_wire
from kit.device import Device
from kit.link import GoneError, LinkError
from kit.pipe_wire import PipeWire

ECHO = [sys.executable, "-c", "import os\nwhile d := os.read(0, 100): os.write(1, d)"]


def test_what_is_written_is_read() -> None:
    wire = PipeWire(ECHO)
    sent, come = os.urandom(300_000), b""
    for at in range(0, len(sent), 1000):
        wire.write(sent[at : at + 1000])
        come += wire.read(0)
    while len(come) < len(sent):
        come += wire.read(10)
    assert come == sent
    assert wire.name == Path(sys.executable).name
    start = time.monotonic()
    assert wire.read(0.2) == b""
    assert time.monotonic() - start >= 0.19
    wire.close()
    wire.close()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "x ended with exit code 0$"),
        (
            "echo of no use; echo >&2 no room; echo >&2 ' disk full '; echo >&2; exit 3",
            "x ended with exit code 3: disk full$",
        ),
        ("kill -KILL $$", "x ended by SIGKILL$"),
        ("kill -ILL $$", "x ended by SIGILL: it was made for another processor$"),
    ],
)
def test_a_program_that_ends_is_one_clear_error(script: str, words: str) -> None:
    wire = PipeWire(["sh", "-c", f"read line; {script}"], "x")
    wire.write(b"\n")
    with pytest.raises(GoneError, match=words):
        list(iter(lambda: wire.read(10), b"never"))
    with pytest.raises(GoneError, match=words):  # and it stays so
        wire.write(b"\n")
    with pytest.raises(GoneError, match=words):
        wire.read(0)
    wire.close()


def test_the_caller_may_explain_the_end() -> None:
    wire = PipeWire(
        ["sh", "-c", "echo >&2 Permission denied; exit 255"], "pi", lambda code, said: f"{code} {said}!"
    )
    with pytest.raises(GoneError, match=r"^255 Permission denied!$"):
        wire.read(10)
    wire.close()


def test_a_device_that_vanishes_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    with pytest.raises(GoneError, match="true ended with exit code 0"):
        Device(PipeWire(["true"]))
    assert time.monotonic() - start < 5


def test_a_program_that_reads_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe_wire, "WRITE_PATIENCE", 0.3)
    monkeypatch.setattr(pipe_wire, "END_PATIENCE", 0.2)
    wire = PipeWire(["sh", "-c", "trap '' TERM; sleep 600 & wait; sleep 600"], "deaf")
    with pytest.raises(GoneError, match="deaf has read nothing for 0 s: is it stopped"):
        wire.write(bytes(1 << 20))
    start = time.monotonic()
    wire.close()
    assert time.monotonic() - start < 10


def test_a_program_that_cannot_start_is_explained(tmp_path: Path) -> None:
    plain, foreign = tmp_path / "plain", tmp_path / "foreign"
    plain.write_text("")
    foreign.write_bytes(b"\x7fELF\2\1\1" + bytes(57))
    foreign.chmod(0o755)
    for path, words in (
        (tmp_path / "missing", "no such program"),
        (plain, "no permission: `chmod"),
        (foreign, "made for another machine"),
    ):
        with pytest.raises(LinkError, match=words) as caught:
            PipeWire([str(path)])
        assert isinstance(caught.value, UserError)
