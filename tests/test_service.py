"""Services of systemd: the unit's text, put there and started, and what was there before when it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kit.targets import service

SYSTEMCTL = """#!/bin/sh
[ "$1" = --user ] || exit 9
echo "$2" >>"$HOME/asked"
case "$2" in
enable) echo "$4" >"$HOME/enabled" ;;
disable) rm -f "$HOME/enabled" ;;
restart) sed -n 's/^ExecStart=//p' "$HOME/.config/systemd/user/$3" >"$HOME/runs"
    ! grep -q broken "$HOME/runs" ;;
esac"""
JOURNAL = "#!/bin/sh\necho 'systemd[1]: Started'; echo 'the microphone is busy'\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give a home folder with the programs of a machine whose services start unless they are `broken`."""
    (tmp_path / "bin").mkdir()
    programs = {"systemctl": SYSTEMCTL, "journalctl": JOURNAL, "loginctl": "#!/bin/sh\nexit 1\n"}
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def sh(home: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)


def start(home: Path, option: str, name: str = "ear") -> subprocess.CompletedProcess[str]:
    return sh(home, service.start(name, service.unit(name, [option])))


def units(home: Path) -> list[str]:
    return sorted(path.name for path in (home / ".config" / "systemd" / "user").iterdir())


def runs(home: Path) -> str:
    return (home / "runs").read_text()


def test_a_service_is_started_and_started_anew(home: Path) -> None:
    assert sh(home, service.restart("ear")).returncode == 0  # there is none
    assert not (home / "asked").exists()
    assert start(home, "first").returncode == 0
    assert start(home, "second").returncode == 0
    assert '"second"' in runs(home)
    assert (home / "enabled").read_text() == "earkit-ear.service\n"
    (home / "runs").unlink()
    assert sh(home, service.restart("ear")).returncode == 0
    assert '"second"' in runs(home)
    assert units(home) == ["earkit-ear.service"]


@pytest.mark.parametrize("name", ["ear", "SERVICE", "unit"])
def test_one_that_does_not_start_leaves_what_was_there(home: Path, name: str) -> None:
    done = start(home, "broken", name)
    assert (done.returncode, done.stderr) == (1, "the microphone is busy\n")
    assert units(home) == []  # it would be tried for ever
    assert not (home / "enabled").exists()
    assert start(home, "good", name).returncode == 0
    done = start(home, "broken", name)
    assert (done.returncode, done.stderr) == (1, "the microphone is busy\n")
    assert units(home) == [f"earkit-{name}.service"]
    assert sh(home, service.restart(name)).returncode == 0
    assert '"good"' in runs(home)


def test_without_systemd_of_the_user_no_unit_is_left(home: Path) -> None:
    text = "#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2; exit 1\n"
    (home / "bin" / "systemctl").write_text(text)
    done = start(home, "x")
    assert (done.returncode, done.stderr) == (1, "Failed to connect to bus: No medium found\n")
    assert units(home) == []


def test_the_unit_is_one_for_systemd(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    odd = ["a\nExecStartPre=/bin/false", "", "ü;", "'", ";"]
    text = service.unit("my.model", ["--source", 'plughw:1 "x" 100%', "--mqtt", "mqtt://a$b/c\\", *odd])
    assert '"plughw:1 \\"x\\" 100%%" "--mqtt" "mqtt://a$$b/c\\\\"' in text
    unit = tmp_path / "earkit-my.model.service"
    unit.write_text(text.replace("%h/.local", "/bin/sh /"))
    done = subprocess.run([program, "verify", "--user", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not complaints
    assert sum(line.startswith("Exec") for line in text.splitlines()) == 1
