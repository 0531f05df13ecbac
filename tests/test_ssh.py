"""Other machines over the real `ssh`, against a server in this process: commands, files, failures."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boards.errors import UserError
from kit.targets import ssh, ssh_errors
from kit.targets.ssh import LostError, Remote, RemoteError
from tests import ssh_server
from tests.ssh_server import Machine


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with ssh_server.machine(tmp_path, monkeypatch) as made:
        yield made


def refused(host: str, command: str = "true") -> str:
    """Return the one line with which `command` on `host` is refused."""
    with Remote(host) as remote, pytest.raises(UserError) as caught:
        remote.check(command)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(host)
    return line


def test_commands_run_through_one_connection(pi: Machine) -> None:
    with Remote("pi") as remote:
        done = remote.run("cat; echo err >&2; exit 3", b"\x00\xffin")
        assert (done.rc, done.out, done.err) == (3, b"\x00\xffin", b"err\n")
        assert remote.check("echo $HOME") == str(pi.home)
        assert remote.check("echo 'a\"b' \"it's\" $((2 + 3))") == "a\"b it's 5"
        assert remote.run("exit 255").rc == 255  # its own, not ssh's
        large = bytes(range(256)) * 4096
        assert remote.run("cat", large).out == large
        start = time.monotonic()
        for _ in range(10):
            remote.run("true")
        assert time.monotonic() - start < 10  # no log-in each time
        socket = Path(remote.arguments("true")[3].partition("=")[2])
        assert socket.exists()
    assert not socket.parent.exists()


def test_files_arrive_whole_and_programs_can_be_run(pi: Machine, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(bytes(range(251)) * 40_000)
    with Remote("pi") as remote:
        files = {"a": b"one", "deep er/b$x'y": b"#!/bin/sh\necho ran\n", "c": source}
        remote.put(files, "put/it here")
        remote.put({"a": b"two"}, "put/it here")
        remote.put({}, "nowhere")
        place = pi.home / "put" / "it here"
        assert (place / "a").read_bytes() == b"two"
        assert (place / "c").read_bytes() == source.read_bytes()
        assert remote.check("'put/it here/deep er/b$x'\\''y'") == "ran"
    assert sorted(path.name for path in place.iterdir()) == ["a", "c", "deep er"]
    assert not (pi.home / "nowhere").exists()


def test_an_unreachable_machine(pi: Machine, tmp_path: Path) -> None:
    assert "refuses SSH on that port: switch SSH on there" in refused("gone")
    assert "no machine of that name is known here" in refused("nothing.invalid")


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch /tmp/x", "a b", "pi\nx"])
def test_what_is_no_machine(host: str) -> None:
    with pytest.raises(RemoteError, match=r"is no machine: give --host as"):
        Remote(host)


def test_a_changed_host_key_stops_and_says_how_to_forget_the_old_one(pi: Machine, tmp_path: Path) -> None:
    pi.change_host_key()
    line = refused("pi")
    assert f"its host key has changed to {pi.host_key.get_fingerprint()}" in line
    (cure,) = [part for part in line.split("`") if part.startswith("ssh-keygen")]
    if shutil.which("ssh-keygen"):
        subprocess.run(["sh", "-c", cure], check=True, capture_output=True)
        assert not (tmp_path / "known_hosts").read_text().strip()
    assert not pi.commands


def test_an_unknown_host_key_is_never_taken(pi: Machine, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    assert "its host key is not known here: run `ssh pi` once, compare the fingerprint" in refused("pi")
    assert not (tmp_path / "known_hosts").read_text()


def test_a_wrong_key(pi: Machine, tmp_path: Path) -> None:
    ssh_server.asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(tmp_path / "id"))
    assert "lets nobody in with the keys or the password from here" in refused("pi")
    (tmp_path / "id").chmod(0o644)
    assert "lets nobody in" in refused("pi") or "chmod 600" in refused("pi")


def test_a_bad_configuration_of_the_user(pi: Machine, tmp_path: Path) -> None:
    with (tmp_path / "config").open("a") as file:
        file.write(" NoSuchThing yes\n")
    assert "your ~/.ssh/config is not understood" in refused("pi")


def test_a_machine_that_hangs_up_or_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    with ssh_server.machine(tmp_path, monkeypatch) as made, socket.create_server(("127.0.0.1", 0)) as server:
        config = (tmp_path / "config").read_text()
        port = server.getsockname()[1]
        (tmp_path / "config").write_text(config.replace(f"Port {made.port}", f"Port {port}"))
        monkeypatch.setattr(ssh, "CONNECT", 1)
        assert "pi: cannot be reached" in refused("pi")  # accepts, and never greets
        monkeypatch.setattr(ssh, "CONNECT", 60)
        monkeypatch.setattr(ssh, "UNASKED", 0.5)
        assert "no log-in within 0 s" in refused("pi")


def test_a_missing_program_is_named_with_its_package(pi: Machine) -> None:
    assert "has no nosuchprogram: install it there (sudo apt install nosuchprogram)" in refused(
        "pi", "nosuchprogram --now"
    )
    assert "failed with 7 (the reason): run it there by hand" in refused("pi", "echo the reason >&2; exit 7")
    assert "(it said nothing)" in refused("pi", "exit 1")


def test_no_space_leaves_the_old_file(pi: Machine, tmp_path: Path) -> None:
    stand_in = tmp_path / "full"
    stand_in.mkdir()
    (stand_in / "tar").write_text(
        "#!/bin/sh\nhead -c 100 > part\necho 'tar: a: Cannot write: No space left on device' >&2\n"
        "echo 'tar: Exiting with failure status due to previous errors' >&2\nexit 2\n"
    )
    (stand_in / "tar").chmod(0o755)
    (pi.home / "d").mkdir()
    (pi.home / "d" / "a").write_bytes(b"old")
    pi.environment = {"PATH": f"{stand_in}:/usr/bin:/bin"}
    with Remote("pi") as remote, pytest.raises(RemoteError, match="its disk is full: free some space there"):
        remote.put({"a": b"new"}, "d")
    assert (pi.home / "d" / "a").read_bytes() == b"old"
    assert [path.name for path in (pi.home / "d").iterdir()] == ["a"]


def test_no_permission_and_a_dead_card() -> None:
    words = "mkdir: cannot create directory '/opt/x': Permission denied"
    assert "log in as the owner of that place" in ssh_errors.failed("pi", "mkdir", 1, words)
    assert "a worn SD card" in ssh_errors.failed("pi", "mv", 1, "mv: 'x': Read-only file system")


def test_a_connection_cut_in_mid_transfer_leaves_the_old_file(pi: Machine) -> None:
    (pi.home / "d").mkdir()
    (pi.home / "d" / "a").write_bytes(b"old")
    with Remote("pi") as remote:
        pi.cut_after = 1 << 20
        with pytest.raises(LostError, match=r"the connection broke.*nothing half-done is in use there"):
            remote.put({"a": os.urandom(8 << 20)}, "d")  # which no packing makes smaller
        assert (pi.home / "d" / "a").read_bytes() == b"old"
        remote.put({"a": b"new"}, "d")  # connects again
    assert (pi.home / "d" / "a").read_bytes() == b"new"


def test_a_login_that_talks_and_one_that_runs_nothing(pi: Machine) -> None:
    pi.altered = lambda command: f"echo Welcome to your Pi; {command}"
    with Remote("pi") as remote:
        assert remote.check("echo said") == "said"
        assert remote.run("cat", b"\0data").out == b"\0data"
        assert remote.run("true").out == b""
    pi.altered = lambda _: "echo This account is currently not available.; exit 1"
    assert "this log-in runs no commands there (This account is currently not available.)" in refused("pi")


@pytest.mark.parametrize("said", ["", "{", '{"a": 1', "[1]", "null", "nonsense", "[" * 100_000])
def test_a_record_that_is_none(pi: Machine, said: str) -> None:
    (pi.home / "record").write_text(said)
    with Remote("pi") as remote:
        with pytest.raises(RemoteError, match=r"^pi: `cat record` said '.{0,40}', no record: run `earkit"):
            remote.record("cat record")
        (pi.home / "record").write_text(' {"a": 1}\n')
        assert remote.record("cat record") == {"a": 1}


def test_a_command_that_does_not_end(pi: Machine) -> None:
    with Remote("pi") as remote:
        with pytest.raises(RemoteError, match=r"`sleep 60` did not end within 1 s: is the machine busy"):
            remote.run("sleep 60", timeout=1)
        assert remote.check("echo again") == "again"


def test_ctrl_c_in_a_terminal_does_not_break_the_connection(pi: Machine) -> None:
    code = (
        "import signal\nfrom kit.targets.ssh import Remote\nsignal.signal(signal.SIGINT, lambda *_: None)\n"
        "with Remote('pi') as remote:\n    remote.connect()\n    print('in', flush=True)\n"
        "    print(remote.check('sleep 2; echo whole'), flush=True)\n    print(remote.check('echo again'))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "in\n"
        for _ in range(5):
            time.sleep(0.3)
            os.killpg(child.pid, signal.SIGINT)
        assert child.stdout.read() == "whole\nagain\n"


def test_the_connection_ends_with_a_process_that_is_killed(pi: Machine) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux)")
    code = (
        "import time\nfrom kit.targets.ssh import Remote\nremote = Remote('pi')\nremote.connect()\n"
        "print(remote._master.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        connection = Path(f"/proc/{int(child.stdout.readline())}")
        assert b"ssh" in (connection / "cmdline").read_bytes()
        child.kill()
    limit = time.monotonic() + 20
    while connection.exists() and time.monotonic() < limit:
        time.sleep(0.05)
    assert not connection.exists()


@pytest.mark.parametrize(
    ("host", "known"),
    [("pi@name", "name"), ("name", "name"), ("ssh://pi@name:2222", "'[name]:2222'")],
)
def test_the_cure_for_a_changed_key_where_ssh_gives_none(host: str, known: str) -> None:
    words = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @"
    assert f"`ssh-keygen -R {known}`" in ssh_errors.explain(host, words)


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("ssh: connect to host x port 22: No route to host", "is it powered and in this network"),
        ("ssh: connect to host x port 22: Connection timed out", "cannot be reached"),
        ("Received disconnect from x: Too many authentication failures", "IdentitiesOnly"),
        ("kex_exchange_identification: read: Connection reset by peer", "hung up before the log-in"),
        ("Unable to negotiate: no matching host key type found. Their offer: ssh-dss", "update the system"),
        ("a complaint\nnever heard of", "ssh failed (never heard of)"),
        ("", "ssh failed (it said nothing)"),
    ],
)
def test_other_complaints_have_a_line_each(words: str, cure: str) -> None:
    line = ssh_errors.explain("x", words)
    assert cure in line
    assert line.startswith("x: ")
