"""The runner for Linux machines, part by part: sound, the machine's state, engines, damaged files."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boards.errors import UserError
from kit.runner import __main__ as runner
from kit.runner import about, engines, machine, sound
from kit.runner.engines import Measured, best
from kit.targets import release

RATE = 16_000


def heard(source: str, fast: bool = True, rate: int = RATE) -> np.ndarray[Any, Any]:
    found = list(sound.blocks(source, rate, fast, lambda: False))
    return np.concatenate([np.zeros(0, np.int16), *(block for block in found if not isinstance(block, int))])


def write_wav(path: Path, samples: np.ndarray[Any, Any], rate: int = RATE, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def test_a_wav_file_comes_whole_and_in_time(tmp_path: Path) -> None:
    samples = np.arange(-4000, 4000, dtype=np.int16)
    path = str(write_wav(tmp_path / "x.wav", samples))
    assert np.array_equal(heard(path), samples)
    start = time.monotonic()
    assert np.array_equal(heard(path, fast=False), samples)
    assert time.monotonic() - start >= 0.5 - 1 / sound.BLOCKS
    both = np.stack([samples, np.full_like(samples, 100)], axis=1)
    mixed = heard(str(write_wav(tmp_path / "two.wav", both)))
    assert np.array_equal(mixed, np.rint((samples.astype(float) + 100) / 2).astype(np.int16))


def test_a_wav_file_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"8000 Hz with 16 bits, the model hears 16000 Hz with 16: sox"):
        heard(str(write_wav(tmp_path / "x.wav", np.zeros(10, np.int16), rate=8000)))
    with pytest.raises(UserError, match="16000 Hz with 8 bits"):
        heard(str(write_wav(tmp_path / "x.wav", np.zeros(10, np.uint8), width=1)))
    (tmp_path / "no.wav").write_bytes(b"RIFFnonsense")
    for name in ("no.wav", "absent.wav"):
        with pytest.raises(UserError, match="not a wav file that can be read here"):
            heard(str(tmp_path / name))


@pytest.mark.parametrize("missing", [1, 3, 1999, 16_000])
def test_a_wav_file_that_was_cut_gives_the_frames_that_are_there(tmp_path: Path, missing: int) -> None:
    both = np.arange(8000, dtype=np.int16).reshape(-1, 2)
    path = write_wav(tmp_path / "cut.wav", both)
    path.write_bytes(path.read_bytes()[:-missing])
    whole = (2 * both.size - missing) // 4
    wanted = np.rint(both[:whole].mean(axis=1)).astype(np.int16)
    assert np.array_equal(heard(str(path)), wanted)


def test_sound_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.arange(1000, dtype=np.int16)
    stdin = io.TextIOWrapper(io.BytesIO(samples.tobytes() + b"\x01"))  # half a sample at the end is none
    monkeypatch.setattr(sys, "stdin", stdin)
    assert np.array_equal(heard("-"), samples)


@pytest.fixture
def arecord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for arecord in front of PATH; it runs what the test writes to the file that is given."""
    script = tmp_path / "arecord"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return script


def stand_in(script: Path, text: str) -> None:
    script.write_text(f'#!/bin/sh\necho "$@" >"{script}.arguments"\n{text}\n')
    script.chmod(0o755)


def test_the_microphone_is_recorded_by_arecord_until_stopped(arecord: Path) -> None:
    stand_in(arecord, "trap 'exit 0' TERM\nwhile :; do printf 0123456789; done")
    blocks: list[Any] = []
    for block in sound.blocks("mic", RATE, False, lambda: len(blocks) == 3):
        blocks.append(block)
    assert [block.size for block in blocks] == [RATE // sound.BLOCKS] * 3
    assert blocks[0].tobytes().startswith(b"0123456789")
    arguments = Path(f"{arecord}.arguments").read_text()
    assert arguments == "-q -D default -f S16_LE -c 1 -r 16000 -t raw\n"
    next(sound.blocks("plughw:CARD=Mic,DEV=0", RATE, False, lambda: False))
    assert "-D plughw:CARD=Mic,DEV=0 " in Path(f"{arecord}.arguments").read_text()


def test_overruns_are_told_of_and_stop_nothing(arecord: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = "yes 'overrun!!! (at least 1.250 ms long)' | head -n 5000 >&2"  # more than a pipe holds
    zeros = "head -c 6400 /dev/zero"
    stand_in(arecord, f"[ $LC_ALL = C ] || exit 3\n{zeros}\n{lines}\n{zeros}\nexec sleep 60")
    heard, lost = [0], [0]
    for block in sound.blocks("mic", RATE, False, lambda: sum(heard) >= 6400 and sum(lost) >= 100_000):
        if isinstance(block, int):
            lost.append(block)
        else:
            heard.append(block.size)
    assert (sum(heard), sum(lost)) == (6400, 5000 * RATE // 800)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("microphone default lost ")
    assert line.endswith(" s of sound by now: other programs keep this machine too busy")


def test_a_recorder_that_will_not_end_is_ended(arecord: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(arecord, "trap '' TERM\nwhile :; do printf 0123456789; done")
    monkeypatch.setattr(sound, "QUIET", 0.5)
    start = time.monotonic()
    for _ in sound.blocks("mic", RATE, False, lambda: time.monotonic() > start + 0.2):
        pass
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("arecord: main:831: audio open error: Device or resource busy", "is busy: another program records"),
        (
            "ALSA lib: cannot find card '0'\narecord: audio open error",
            "plug it in",
        ),
        ("arecord: main:831: audio open error: Permission denied", "sudo usermod -aG audio"),
        ("arecord: set_params:1349: Channels count non available", "gives no mono int16: use plughw:CARD"),
        ("something new", r"went away \(something new\)"),
        ("", "went away \\(arecord said nothing\\)"),
    ],
)
def test_a_microphone_that_fails_has_one_line(arecord: Path, said: str, line: str) -> None:
    stand_in(arecord, f'echo "{said}" >&2\nexit 1')
    with pytest.raises(UserError, match=line) as caught:
        heard("mic")
    assert "\n" not in str(caught.value)


def test_a_microphone_that_is_unplugged_or_silent(arecord: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(arecord, "head -c 1000 /dev/zero\nsleep 0.1\necho 'read error: No such device' >&2\nexit 1")
    with pytest.raises(UserError, match="is not there: plug it in"):
        heard("mic")
    stand_in(arecord, "exec sleep 60")
    monkeypatch.setattr(sound, "QUIET", 0.3)
    with pytest.raises(UserError, match="has said nothing for 0 s"):
        heard("mic")
    monkeypatch.setenv("PATH", str(arecord.parent / "nowhere"))
    with pytest.raises(UserError, match="arecord is not installed: sudo apt install alsa-utils"):
        heard("mic")


def test_the_state_of_a_raspberry_pi(tmp_path: Path) -> None:
    for name, text in {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1500000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "ondemand\n",
        "sys/class/thermal/thermal_zone0/temp": "71234\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50001\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    state = machine.state(tmp_path)
    assert state["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert (state["governor"], state["mhz"], state["most_mhz"]) == (["ondemand"], [600.0], [1500.0])
    assert state["celsius"] == 71.234
    assert state["throttled"] == [
        "under-voltage now",
        "under-voltage since it started",
        "throttled since it started",
    ]
    said = machine.complaints({**state, "load": 0.0}, {**state, "cores": 4})
    assert said == [
        "the machine was slowed: under-voltage now",
        "the clock is governed by ondemand: `performance` gives steadier times",
    ]
    busy = machine.complaints({**state, "load": 3.0}, {**state, "cores": 4, "throttled": [], "governor": []})
    assert busy == ["other work ran beside it: a load of 3.0 on 4 cores"]


def test_a_machine_that_tells_nonsense_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    zones = ("-", "", "9" * 5000, "9" * 400, "-274000", "0", "2147483647", "1e3", "\0", "48000")
    for number, said in enumerate(zones):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(said)
        clock = tmp_path / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        clock.mkdir(parents=True)
        (clock / "scaling_cur_freq").write_text(said if number < 4 else "x")
        (clock / "scaling_governor").mkdir()
    state = machine.state(tmp_path)
    assert (state["celsius"], state["mhz"], state["governor"]) == (48.0, [], [])
    json.dumps(machine.complaints(state, state))


def release_of(folder: Path) -> dict[str, Path]:
    """Write the files that a runner reads first, and return them by name."""
    record = {"name": "x", "build_id": "1", "stream": False, "frontend": None, "labels": ["a", "b"]}
    (folder / about.RECORD).write_text(json.dumps(record))
    np.savez(
        folder / about.CHECKS, **dict.fromkeys(("inputs", "program", "litert"), np.zeros((1, 1, 4), np.int8))
    )
    return {name: folder / name for name in (about.RECORD, about.CHECKS)}


@pytest.mark.parametrize("name", [about.RECORD, about.CHECKS])
def test_a_damaged_file_of_a_release_is_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = release_of(tmp_path)[name]
    whole = path.read_bytes()
    for damaged in (
        b"",
        whole[: len(whole) // 2],
        whole[:-4],
        b"PK\3\4" + whole[:9],
        b"\x93NUMPY",
        b"[1]",
        None,
    ):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        (tmp_path / about.PROGRAM).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / about.PROGRAM).chmod(0o755)
        assert runner.main(["--folder", str(tmp_path), "check"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{path}: is damaged (" in line
        assert line.endswith("run `earkit flash` again")


def test_a_disk_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release_of(tmp_path)
    (tmp_path / f".{about.BENCH}").mkdir()
    monkeypatch.setattr(runner, "measured", lambda _: {})
    assert runner.main(["--folder", str(tmp_path), "check"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Is a directory" in line


@pytest.mark.parametrize(
    "array", [np.zeros((2, 4), np.int8), np.zeros(3, np.float32), np.int8([]), np.int8(1)]
)
@pytest.mark.parametrize("kept", [0, 20, 100, None])
def test_damaged_inputs_are_one_line(
    tmp_path: Path,
    array: np.ndarray[Any, Any],
    kept: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Takes4:
        def __init__(self, *_: object) -> None:
            self._into = {"shape": np.array([1, 5])}

        run = engines.LiteRT.run

    release_of(tmp_path)
    packed = io.BytesIO()
    np.save(packed, array)
    monkeypatch.setattr(engines, "LiteRT", Takes4)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed.getvalue()[:kept])))
    assert runner.main(["--folder", str(tmp_path), "infer"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"what came on stdin|an input has \d values, the model takes 5", line)


def test_vcgencmd_is_asked_where_the_kernel_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.throttled(tmp_path) is None
    for said, found in (("throttled=0x0", []), ("throttled=0x4", ["throttled now"]), ("VCHI failed", None)):
        (tmp_path / "vcgencmd").write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / "vcgencmd").chmod(0o755)
        assert machine.throttled(tmp_path) == found
    bare = machine.state(tmp_path)
    assert (bare["celsius"], bare["mhz"], bare["governor"]) == (None, [], [])
    assert bare["model"]


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({("program", 1): 100, ("litert", 1): 120, ("litert", 4): 60}, ("litert", 4)),
        ({("program", 1): 100, ("litert", 1): 99, ("litert", 4): 97}, ("program", 1)),
        ({("program", 1): 200, ("litert", 1): 102, ("litert", 2): 100}, ("litert", 1)),
        ({("program", 1): 5}, ("program", 1)),
    ],
)
def test_the_fastest_engine_is_taken_and_of_equals_the_one_with_fewer_threads(
    times: dict[tuple[str, int], float], chosen: tuple[str, int]
) -> None:
    found = [Measured(*key, time, time, time, 9, 0) for key, time in times.items()]
    one = best(found)
    assert (one.engine, one.threads) == chosen


def test_what_goes_to_the_machine_is_python_of_2020_and_imports_nothing_else() -> None:
    for name in release.MODULES:
        ast.parse((release.ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 9))
    code = (
        "import sys, kit.runner.__main__, kit.runner.publish\n"
        "print(*{m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in done.stdout.split() if not name.startswith("_")} <= {
        "boards",
        "kit",
        "numpy",
    } | ours()
    there = {f"kit/{name}" for name in ("device.py", "detect.py", "pipe_wire.py")}
    assert there <= set(release.MODULES)


def ours() -> set[str]:
    """Return what the whole kit's own __init__ modules import, which stay here."""
    code = "import sys, boards, kit\nprint(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
