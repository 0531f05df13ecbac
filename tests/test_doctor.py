"""Doctor: every fault comes with its cure, and only what blocks the main road makes it fail."""

from __future__ import annotations

import importlib.util
import json
import os
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from boards.errors import UserError
from kit import cli, doctor, port_errors

Capture = pytest.CaptureFixture[str]


def found(report: dict[str, object]) -> dict[str, dict[str, str]]:
    checks = report["checks"]
    assert isinstance(checks, list)
    return {check["name"]: check for check in checks}


def test_json_is_the_report_and_matches_the_exit_code(capsys: Capture) -> None:
    code = cli.main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (code == 0) is report["ok"]
    names = set(found(report))
    assert {
        "python",
        "libraries",
        "compiler zig",
        "compiler gcc",
        "emulator unicorn",
        "emulator qemu",
    } <= names
    assert {"microphone", "cache folder", "extra train", "extra swd", "flasher dfu-util"} <= names
    for check in report["checks"]:
        assert bool(check["cure"]) is (check["state"] != "ok"), check


def test_table_names_every_check(capsys: Capture) -> None:
    cli.main(["doctor"])
    out = capsys.readouterr().out
    assert "compiler zig" in out
    assert "emulator unicorn" in out


def test_missing_gcc_and_qemu_are_optional_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    checks = found(doctor.examine())
    assert checks["compiler gcc"]["state"] == "optional"
    assert "apt install gcc-arm-none-eabi" in checks["compiler gcc"]["cure"]
    assert checks["emulator qemu"]["state"] == "optional"
    assert "apt install qemu-system-arm" in checks["emulator qemu"]["cure"]


def _hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in hidden else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def test_missing_library_blocks_the_road(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    _hide(monkeypatch, "soundfile")
    assert cli.main(["doctor", "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["ok"] is False
    assert "soundfile" in found(report)["libraries"]["found"]
    assert len(err.splitlines()) == 1
    assert "libraries" in err


def test_missing_extra_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "keras")
    extra = found(doctor.examine())["extra train"]
    assert extra["state"] == "optional"
    assert extra["cure"] == "pip install 'earkit[train]'"
    assert "keras" in extra["found"]


def test_port_without_permission_gets_the_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    port = SimpleNamespace(device=str(tmp_path / "ttyACM0"), description="a board", vid=None)
    monkeypatch.setattr(list_ports, "comports", lambda: [port])
    monkeypatch.setattr(os, "access", lambda path, mode: path != port.device)
    check = found(doctor.examine())[f"serial {port.device}"]
    assert check["state"] == "optional"
    assert "dialout" in check["cure"]


def test_boards_are_known_by_their_usb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One has its port; another is plugged in and lacks its driver."""
    port = SimpleNamespace(device=str(tmp_path), description="a board", vid=0x2E8A, pid=0xA)
    monkeypatch.setattr(list_ports, "comports", lambda: [port])
    monkeypatch.setattr(port_errors, "SYSTEM", "linux")
    monkeypatch.setattr(port_errors, "DEVICES", tmp_path)
    (tmp_path / "1-2").mkdir()
    (tmp_path / "1-2" / "idVendor").write_text("0d28\n")
    (tmp_path / "1-2" / "idProduct").write_text("0204\n")
    checks = found(doctor.examine())
    assert checks[f"serial {tmp_path}"]["found"] == "a board, as rpi-pico"
    assert checks["serial driver"]["found"] == "0d28:0204: microbit or microbit-v2 without a port"
    assert "modprobe cdc_acm" in checks["serial driver"]["cure"]


def test_cache_that_cannot_be_written_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and real(path, mode))
    report = doctor.examine()
    assert report["ok"] is False
    assert "XDG_CACHE_HOME" in found(report)["cache folder"]["cure"]


def test_what_the_compiler_lacks_is_not_called_a_broken_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> None:
        raise UserError("cannot make the compiler cache /x: Read-only file system: set XDG_CACHE_HOME")

    monkeypatch.setattr("kit.counter.library", lacking)
    check = found(doctor.examine())["emulator unicorn"]
    assert (check["state"], check["cure"]) == ("missing", "set XDG_CACHE_HOME")
    assert check["found"] == "cannot make the compiler cache /x: Read-only file system"
