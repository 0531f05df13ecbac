"""`earkit flash --host` where nothing goes right: one line with the cure, and what ran before runs on."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import earkit

from firmware.compiler.program import Program
from kit import device, pipeline, shelf
from kit.targets import deploy, wheels
from kit.targets.wheels import Wheels
from tests import ssh_server
from tests.ssh_server import Machine

HERE = {"x86_64": "linux-x86_64"}.get(platform.machine(), "pi4")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Give a bundle of the kit for this machine, in a folder with blanks, a quote and other letters."""
    folder = tmp_path_factory.mktemp("it's ä") / "tür; $(x) 1"
    compiled = pipeline.compile(shelf.find("panns-micro-fsdd"), HERE, folder)
    assert isinstance(compiled, Program)
    return compiled


@pytest.fixture(scope="module")
def flashed(made: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Give a machine on which the program runs; its python3 is this one."""
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch, ssh_server.machine(folder, patch) as here:
        (folder / "programs").mkdir()
        here.environment = {"PATH": f"{folder}/programs:{os.environ['PATH']}"}
        program(here, "python3", f'exec "{sys.executable}" "$@"')
        program(here, "sync", "")
        patch.setattr(wheels, "resolve", lambda _: Wheels((), litert=True))
        pipeline.flash(made.path, port="pi")
        yield here


@pytest.fixture
def pi(flashed: Machine, made: Program) -> Iterator[Machine]:
    """Give that machine, and see afterwards that the same release is there, whole, and answers."""
    (place,) = (flashed.home / deploy.BASE).glob("*/current")
    release, environment, folder = os.readlink(place), dict(flashed.environment), flashed.home.parent
    kept = {path: path.read_bytes() for path in (folder / "programs").iterdir()}
    known = (folder / "known_hosts").read_bytes(), (folder / "id").read_bytes()
    yield flashed
    flashed.before, flashed.altered, flashed.cut_after = lambda _: None, lambda command: command, None
    flashed.environment = environment
    for path in (folder / "programs").iterdir():
        path.write_bytes(kept[path]) if path in kept else path.unlink()
    (folder / "known_hosts").write_bytes(known[0])
    (folder / "id").write_bytes(known[1])
    ssh_server.trust(folder, flashed)
    assert os.readlink(place) == release
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=place, check=True)
    with device.open(made, "pi") as board:
        assert board.info().build_id == made.build_id


def program(machine: Machine, name: str, script: str) -> None:
    """Put a program in front of the machine's PATH."""
    path = machine.home.parent / "programs" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def other(made: Program, tmp_path: Path) -> Path:
    """Return the build with other labels, which is another release."""
    folder = tmp_path / made.path.name
    subprocess.run(["cp", "-r", made.path, folder], check=True)
    record = json.loads((folder / "build.json").read_text())
    record["labels"] = [f"\"{label}'; $(reboot) `x` \\" for label in record["labels"]]
    (folder / "build.json").write_text(json.dumps(record))
    return folder


def refused(capsys: Capture, build: Path, *argv: str, host: str = "pi") -> str:
    """Return the only line with which a flash ends with 1, what it tells before left out."""
    code, out, lines = earkit(capsys, "flash", build, "--host", host, *argv, "--json")
    assert (code, out) == (1, "")
    told = [line for line in lines if not line.startswith("earkit: ")]
    assert all(line.startswith(f"{host}: ") and "Python" in line for line in told), told
    (line,) = [line for line in lines if line.startswith("earkit: ")]
    return line


def test_a_machine_that_is_not_reached(made: Program, pi: Machine, capsys: Capture) -> None:
    assert "gone: is there but refuses SSH on that port" in refused(capsys, made.path, host="gone")
    line = refused(capsys, made.path, host="nothing.invalid")
    assert "nothing.invalid: no machine of that name is known here" in line
    assert "ü.invalid: " in refused(capsys, made.path, host="ü.invalid")
    for host in ("-oProxyCommand=touch x", "a b", "a\tb", ""):
        code, _, lines = earkit(capsys, "flash", made.path, f"--host={host}")
        assert code == 1
        assert "is no machine: give --host as name" in lines[-1]


def test_a_machine_whose_key_has_changed(made: Program, pi: Machine, capsys: Capture) -> None:
    pi.change_host_key()
    assert "its host key has changed to SHA256:" in refused(capsys, made.path)


def test_a_key_that_nobody_knows_there(made: Program, pi: Machine, capsys: Capture) -> None:
    strange = ssh_server.asyncssh.generate_private_key("ssh-ed25519")
    strange.write_private_key(str(pi.home.parent / "id"))
    assert "lets nobody in with the keys or the password from here" in refused(capsys, made.path)


def test_a_wrong_password_in_a_terminal(made: Program, pi: Machine) -> None:
    (pi.home.parent / "config").write_text(
        (pi.home.parent / "config").read_text() + " NumberOfPasswordPrompts 2\n PubkeyAuthentication no\n"
    )
    command = [sys.executable, "-m", "kit", "flash", str(made.path), "--host", "pi"]
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    said, asked = b"", 0
    try:
        while data := os.read(terminal, 4096):
            said += data
            if said.count(b"assword:") > asked:
                asked += 1
                os.write(terminal, b"wrong\n")
    except OSError:  # the child has gone
        pass
    os.close(terminal)
    text = (pi.home.parent / "config").read_text()
    (pi.home.parent / "config").write_text(text[: text.index(" NumberOf")])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert asked >= 2
    line = said.decode().strip().splitlines()[-1]
    assert "earkit: pi: lets nobody in with the keys or the password from here" in line


@pytest.mark.parametrize(
    ("name", "script", "line"),
    [
        ("uname", "echo riscv64", "is riscv64, linux-x86_64 x86_64: the kit has no board of that kind"),
        ("uname", "echo armv7l", "is armv7, linux-x86_64 x86_64: compile with --board linux-armv7"),
        ("uname", "head -c 99999 /dev/urandom | tr -d '\\n'", "pi is .* x86_64: the kit has no board"),
        ("uname", "exit 1", "pi does not say what machine it is: what does `uname -m` say there"),
        ("python3", 'echo "3.7"', r"pi has Python 3.7, the runner needs 3.9: put a newer system there"),
        ("python3", "exit 127", "pi has no python3: sudo apt install python3 there"),
        ("python3", "echo 9999999999.1", "pi has no python3: sudo apt install python3 there"),
        ("awk", "echo 5", "pi: 0 MB are free there and 16 MB are needed: free some space"),
        ("df", "echo df: no file systems processed >&2; exit 1", "`df` there tells no free space .*mounted"),
        ("df", "echo a; echo / 0 0 0 0 /", "0 MB are free there and 16 MB are needed"),
        ("tar", "exit 127", "pi has no tar: install it there"),
        ("ln", "echo No space left on device >&2; exit 1", "its disk is full: free some space there"),
        (
            "mkdir",
            "echo 'mkdir: .local: Read-only file system' >&2; exit 1",
            "its disk is read-only: a worn SD",
        ),
        ("sha256sum", "exit 1", "files there were damaged; they are removed"),
    ],
)
def test_a_machine_that_lacks_something(
    made: Program, pi: Machine, capsys: Capture, tmp_path: Path, name: str, script: str, line: str
) -> None:
    import re

    program(pi, name, script)
    said = refused(capsys, other(made, tmp_path))
    assert re.search(line.replace("linux-x86_64 x86_64", f"{HERE} {made.board.machine}"), said), said


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("ImportError: libatomic.so.1: cannot open shared object file", "libatomic.so.1 is missing there"),
        (
            "ModuleNotFoundError: No module named 'numpy'",
            "Python there has no numpy: sudo apt install python3",
        ),
        ("Illegal instruction (core dumped)", "(Illegal instruction: it was made for another processor"),
        ("Killed", "(it was killed, perhaps for want of memory: close other programs there"),
        ("", "is not healthy (it said nothing)"),
    ],
)
def test_missing_libraries(
    made: Program, pi: Machine, capsys: Capture, tmp_path: Path, said: str, line: str
) -> None:
    lines = said and f'Traceback (most recent call last):\n  File "x"\n{said}'
    program(
        pi, "python3", f'[ "$1" = -m ] || exec "{sys.executable}" "$@"\ncat >&2 <<"E"\n{lines}\nE\nexit 1'
    )
    text = refused(capsys, other(made, tmp_path))
    assert line in text
    assert " runs on" in text


def test_another_deploy_is_under_way(made: Program, pi: Machine, capsys: Capture, tmp_path: Path) -> None:
    with (pi.home / deploy.BASE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another deploy is under way there: wait for its end" in refused(capsys, other(made, tmp_path))


@pytest.mark.parametrize("point", [0, 2, 4, 6, 7])  # until it is switched to
def test_the_power_goes_in_mid_deploy(
    made: Program, pi: Machine, capsys: Capture, tmp_path: Path, point: int
) -> None:
    before, seen = pi.before, len(pi.commands)

    def cut(_: str) -> None:
        if len(pi.commands) - seen > point:
            pi.before = before  # the machine is up again
            raise ConnectionError

    pi.before = cut
    build = other(made, tmp_path)
    assert "pi: the connection broke" in refused(capsys, build)


def test_the_microphone_is_busy_or_the_port_taken(
    made: Program, pi: Machine, capsys: Capture, tmp_path: Path
) -> None:
    unit = ".config/systemd/user"
    run = f'line=$(sed -n "s/^ExecStart=//p" "$HOME/{unit}/$3" | sed "s|%h|$HOME|"); eval "timeout 60 $line"'
    program(pi, "systemctl", f'[ "$2" != restart ] || {{ {run} >/dev/null 2>"$HOME/journal"; }}')
    program(pi, "journalctl", 'cat "$HOME/journal"')
    program(pi, "arecord", "echo 'arecord: main:831: audio open error: Device or resource busy' >&2; exit 1")
    line = refused(capsys, other(made, tmp_path), "--service")
    assert "microphone default is busy: another program records from it" in line
    assert " runs again" in line
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(capsys, tmp_path / made.path.name, "--service", f"--listening=--websocket {port}")
    assert f"{port}: it is taken: choose another port, or end who has it" in line
    assert not list((pi.home / unit).iterdir())
