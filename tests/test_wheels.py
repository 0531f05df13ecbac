"""Wheels for another machine: found by pip in a small index, kept, unpacked; machines that are refused."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boards import computers
from boards.errors import UserError
from kit.targets import probe, wheels
from kit.targets.probe import Probe
from kit.targets.ssh import Done, Remote

PI = Probe(
    host="pi",
    machine="aarch64",
    kernel="aarch64",
    glibc=(2, 36),
    model="Raspberry Pi 4 Model B Rev 1.4",
    free_bytes=4 << 30,
    ram_bytes=1 << 30,
    python=(3, 11),
    numpy="",
    arecord=True,
    cards=1,
    systemd=True,
    missing=(),
)
BESIDE = ("paho_mqtt-2.1.0-py3-none-any", "websockets-15.0-cp311-cp311-manylinux_2_17_aarch64")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that is all that pip finds; the cache is new."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("EARKIT_CACHE", str(tmp_path / "cache"))
    return folder


def make(folder: Path, *names: str) -> None:
    """Write wheels that are nothing but a module, a test of it and their metadata."""
    for name in names:
        project, version = name.split("-")[:2]
        with zipfile.ZipFile(folder / f"{name}.whl", "w") as wheel:
            wheel.writestr(f"{project}/__init__.py", f"'{name}'")
            wheel.writestr(f"{project}/tests/test_x.py", "1 / 0")
            info = f"{project}-{version}.dist-info"
            wheel.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n"
            )
            tag = name.split("-", 2)[2]
            wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
            wheel.writestr(f"{info}/RECORD", "")


def test_wheels_fit_the_machine_and_are_kept(index: Path) -> None:
    make(index, *BESIDE, "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64")
    make(index, "numpy-2.4.0-cp311-cp311-manylinux_2_27_x86_64")  # of another machine
    make(index, "numpy-2.3.0-cp312-cp312-manylinux_2_27_aarch64")  # of another Python
    make(index, "numpy-2.2.0-cp311-cp311-manylinux_2_39_aarch64")  # of a newer C library
    make(index, "numpy-2.1.0-cp311-cp311-manylinux_2_27_aarch64")
    found = wheels.resolve(PI)
    assert found.litert
    names = [path.name.split("-")[:2] for path in found.paths]
    assert names[:2] == [["ai_edge_litert", "2.3.0"], ["numpy", "2.1.0"]]
    assert len(names) == 4
    for path in index.iterdir():
        path.unlink()
    assert wheels.resolve(PI) == found  # without the index
    unpacked = found.files()
    assert unpacked["site/numpy/__init__.py"] == b"'numpy-2.1.0-cp311-cp311-manylinux_2_27_aarch64'"
    assert not [name for name in unpacked if "/tests/" in name]


def test_an_old_python_gets_tflite_runtime(index: Path) -> None:
    old = replace(PI, python=(3, 9))
    make(index, BESIDE[0], "websockets-14.0-cp39-cp39-manylinux2014_aarch64")
    make(index, "numpy-1.26.0-cp39-cp39-manylinux2014_aarch64")
    make(index, "tflite_runtime-2.14.0-cp39-cp39-manylinux2014_aarch64")
    found = wheels.resolve(old)
    assert found.litert
    assert any(path.name.startswith("tflite_runtime") for path in found.paths)


def test_a_machine_whose_numpy_is_its_own(index: Path) -> None:
    small = replace(PI, machine="armv7", kernel="armv7l")
    make(index, BESIDE[0], "websockets-15.0-cp311-cp311-manylinux_2_31_armv7l")
    line = "no wheel of numpy for armv7 and Python 3.11: sudo apt install python3-numpy"
    with pytest.raises(UserError, match=line):
        wheels.resolve(small)
    small = replace(small, numpy="1.24.2")
    assert not wheels.resolve(small).litert
    make(
        index, "tflite_runtime-2.14.0-cp311-cp311-manylinux_2_34_armv7l"
    )  # what was not there is asked again
    found = wheels.resolve(small)
    assert found.litert
    assert not any(path.name.startswith("numpy") for path in found.paths)


def test_a_damaged_wheel_is_fetched_anew(index: Path) -> None:
    make(index, *BESIDE, "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64")
    make(index, "numpy-2.1.0-cp311-cp311-manylinux_2_27_aarch64")
    whole = wheels.resolve(PI).paths[1].read_bytes()
    middle = whole.index(b"1 / 0") - 200
    for damaged in (b"", whole[:100], whole[:-30], whole[:middle] + b"\xff" * 50 + whole[middle + 50 :]):
        found = wheels.resolve(PI)
        found.paths[1].write_bytes(damaged)
        with pytest.raises(UserError, match=r"numpy.*whl was damaged .* and is removed: the same command"):
            found.files()
        assert not found.paths[1].exists()


def test_without_network_or_pip_there_is_a_cure(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no wheels of paho-mqtt.* and websockets.*: a newer Python"):
        wheels.resolve(PI)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(UserError, match=r"no network to fetch .*: connect once .* or set PIP_FIND_LINKS"):
        wheels.resolve(PI)
    monkeypatch.setattr(wheels, "_pips", list)
    with pytest.raises(UserError, match="pip is needed to fetch wheels"):
        wheels.resolve(PI)
    with pytest.raises(UserError, match="has no glibc"):
        wheels.resolve(replace(PI, glibc=None))


@pytest.mark.parametrize(
    ("board", "changed", "line"),
    [
        ("linux-x86_64", {}, "pi is aarch64, linux-x86_64 x86_64: compile with --board .*pi4"),
        ("pi4", {"machine": "x86_64", "kernel": "x86_64"}, "pi is x86_64, pi4 aarch64: .*linux-x86_64"),
        (
            "pi4",
            {"machine": "armv7"},
            r"is armv7 \(on a kernel for aarch64\), .*--board linux-armv7",
        ),
        ("pi4", {"machine": "riscv64", "kernel": "riscv64"}, "riscv64, .*the kit has no board of that kind"),
        ("pi4", {"python": (3, 7)}, "pi has Python 3.7, the runner needs 3.9: put a newer system there"),
        ("pi4", {"python": None}, "pi has no python3: sudo apt install python3"),
        ("pi4", {"missing": ("flock", "tar")}, "pi has no flock, tar: install them there"),
    ],
)
def test_machines_that_do_not_fit(board: str, changed: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        probe.fits(replace(PI, **changed), computers.load(board))
    assert "\n" not in str(caught.value)


def test_a_machine_that_fits() -> None:
    probe.fits(PI, computers.load("pi4"))
    probe.fits(replace(PI, python=None), computers.load("pi4"), python=False)


class Told(Remote):
    """A machine that answers with a text."""

    def __init__(self, text: str) -> None:
        self.host, self.told = "pi", text

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> Done:
        return Done(0, self.told.encode(), b"")


def test_what_a_machine_tells_is_read_between_the_greetings_of_a_log_in() -> None:
    told = (
        "kernel=aarch64 bits=32 glibc=2.31 model=Raspberry_Pi_3=B free=2048 memory=1000 python=3.9 numpy= "
        "arecord=/usr/bin/arecord cards=2 systemd=/bin/systemctl missing=flock"
    )
    text = "Welcome!\n" + "\n".join(f"{probe.MARK}{pair}" for pair in told.split()) + "\nbye"
    found = probe.examine(Told(text))
    assert (found.machine, found.kernel, found.glibc, found.python) == ("armv7", "aarch64", (2, 31), (3, 9))
    assert (found.model, found.free_bytes, found.ram_bytes) == ("Raspberry_Pi_3=B", 2 << 20, 1000 << 10)
    assert (found.cards, found.systemd, found.missing, found.numpy) == (2, True, ("flock",), "")
    silent = probe.examine(Told(""))
    assert (silent.machine, silent.python, silent.glibc, silent.free_bytes) == ("", None, None, 0)
