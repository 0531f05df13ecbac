"""Releases on another machine: what is sent, what is checked, and that a cut anywhere leaves the old one."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boards.errors import UserError
from kit.targets import deploy as deploying
from kit.targets.deploy import Deployed, deploy
from kit.targets.ssh import Remote, RemoteError
from tests import ssh_server
from tests.ssh_server import Machine

HEALTHY = "sh bin/run"
OLD = {
    "bin/run": b"#!/bin/sh\necho old\n",
    "model": b"m" * 5000,
    "wheels/a/b.py": b"x = 1\n",
    "twin": b"x = 1\n",
}
NEW = OLD | {"bin/run": b"#!/bin/sh\necho new\n", "model": b"M" * 6000}


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with ssh_server.machine(tmp_path, monkeypatch) as made:
        (tmp_path / "fast").mkdir()
        (tmp_path / "fast" / "sync").symlink_to("/bin/true")  # the disk of this machine has other work
        made.environment = {"PATH": f"{tmp_path}/fast:{os.environ['PATH']}"}
        yield made


def put(files: dict[str, bytes], health: str = HEALTHY, start: str = "true", name: str = "ear") -> Deployed:
    with Remote("pi") as remote:
        return deploy(remote, name, files, health, start=start)


def base(pi: Machine) -> Path:
    return pi.home / deploying.BASE


def running(pi: Machine, name: str = "ear") -> dict[str, bytes]:
    """Return the files of the release that runs."""
    place = base(pi) / name / "current"
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def test_only_what_changed_is_sent_and_the_old_release_stays_for_a_roll_back(pi: Machine) -> None:
    first = put(OLD)
    assert (first.files, first.sent, first.before) == (4, 3, None)  # two of them are the same
    assert running(pi) == OLD
    second = put(NEW)
    assert (second.sent, second.sent_bytes) == (2, len(NEW["model"]) + len(NEW["bin/run"]))
    assert second.before == first.digest
    assert running(pi) == NEW
    again = put(NEW)
    assert (again.sent, again.before, again.digest) == (0, second.digest, second.digest)
    with Remote("pi") as remote:
        assert deploying.current(remote, "ear") == second.digest
        assert deploying.current(remote, "other") is None
    third = put({"bin/run": OLD["bin/run"]})
    releases = {path.name for path in (base(pi) / "ear" / "releases").iterdir()}
    assert releases == {second.digest, third.digest}
    stored = {path.name for path in (base(pi) / "store").iterdir()}
    assert len(stored) == 4  # what no release has any more is gone


def test_two_deployments_share_files_but_not_releases(pi: Machine) -> None:
    put(OLD)
    assert put(NEW, name="other").sent == 2
    assert running(pi) == OLD
    assert running(pi, "other") == NEW


def test_an_unhealthy_release_is_never_switched_to(pi: Machine) -> None:
    with pytest.raises(RemoteError, match=r"the new release is not healthy \(no ear\); nothing is switched"):
        put(OLD, health="echo no ear >&2; exit 1")
    assert not running(pi)
    old = put(OLD)
    with pytest.raises(RemoteError, match=rf"is not healthy \(broken\); release {old.digest} runs on"):
        put(NEW, health="echo broken >&2; exit 1")
    assert running(pi) == OLD
    assert [path.name for path in (base(pi) / "ear" / "releases").iterdir()] == [old.digest]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "ImportError: libatomic.so.1: cannot open shared object file: No such file",
            "libatomic.so.1 is missing",
        ),
        ("ModuleNotFoundError: No module named 'numpy'", "sudo apt install python3-numpy"),
    ],
)
def test_missing_libraries_have_a_cure(pi: Machine, said: str, line: str) -> None:
    with pytest.raises(RemoteError, match=line):
        put(OLD, health=f'echo "Traceback\n{said}\n" >&2; exit 1')


def test_a_release_that_does_not_start_is_rolled_back(pi: Machine) -> None:
    start = 'sh "$HOME/.local/share/earkit/ear/current/bin/run" | grep -x old || { echo no mic >&2; exit 1; }'
    with pytest.raises(RemoteError, match=r"does not start \(no mic\), and there is no other one"):
        put(NEW, start=start)
    assert not running(pi)
    old = put(OLD, start=start)
    with pytest.raises(RemoteError, match=rf"does not start \(no mic\); release {old.digest} runs again"):
        put(NEW, start=start)
    assert running(pi) == OLD


def test_one_that_does_not_end_is_not_healthy_or_rolled_back(
    pi: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(OLD)
    monkeypatch.setattr(deploying, "HEALTH", 1.0)
    with Remote("pi") as remote:
        with pytest.raises(RemoteError, match=rf"not healthy \(it did not end .*\); release {old.digest}"):
            deploy(remote, "ear", NEW, "sleep 60", patience=1.0)
        assert running(pi) == OLD
        start = "grep -q old ~/.local/share/earkit/ear/current/bin/run || sleep 60"
        with pytest.raises(RemoteError, match=rf"not start \(it did not end .*; release {old.digest} runs"):
            deploy(remote, "ear", NEW, HEALTHY, start=start)
    assert running(pi) == OLD


def test_a_release_is_started_again_as_it_was(pi: Machine) -> None:
    old = put(OLD)
    start, again = "echo new >>~/told; exit 1", "echo before >>~/told"
    with Remote("pi") as remote:
        for files in (NEW, OLD):  # another one, and the same with another start
            with pytest.raises(RemoteError, match=rf"does not start .*; release {old.digest} runs again"):
                deploy(remote, "ear", files, HEALTHY, start=start, again=again)
            assert running(pi) == OLD
    assert (pi.home / "told").read_text() == "new\nbefore\n" * 2


@pytest.mark.parametrize("target", ["releases/0123456789abcdef", "/nowhere", "releases/by hand", "."])
def test_current_that_leads_nowhere_is_mended(pi: Machine, target: str) -> None:
    put(OLD)
    (base(pi) / "ear" / "releases" / "by hand").mkdir()
    (base(pi) / "ear" / "current").unlink()
    (base(pi) / "ear" / "current").symlink_to(target)
    with Remote("pi") as remote:
        assert deploying.current(remote, "ear") is None
    again = put(OLD)
    assert (again.before, again.sent) == (None, 0)
    assert running(pi) == OLD


def test_the_release_that_runs_is_built_anew_when_it_is_damaged(pi: Machine) -> None:
    old = put(OLD)
    there = base(pi) / "ear" / "releases" / old.digest
    (there / "wheels" / "a" / "b.py").unlink()
    assert put(OLD).digest == old.digest
    assert running(pi) == OLD
    (there / "SHA256SUMS").write_text("")
    (there / "twin").unlink()
    (there.parent / f"{old.digest}.old").mkdir()  # a power cut left it
    put(OLD)
    assert running(pi) == OLD
    assert [path.name for path in there.parent.iterdir()] == [old.digest]
    inode = there.stat().st_ino
    put(OLD)
    assert there.stat().st_ino == inode  # what is whole stays as it is


@pytest.mark.parametrize("name", ["NAME", "DIGEST", "KEEP", "KEEP.NAME-DIGEST_1"])
def test_names_that_scripts_have_too(pi: Machine, name: str) -> None:
    put(OLD, name=name)
    put(NEW, name=name)
    assert running(pi, name) == NEW
    assert len(list((base(pi) / name / "releases").iterdir())) == 2


def test_a_login_that_talks(pi: Machine) -> None:
    pi.altered = lambda command: f"echo Welcome to your Pi; {command}"
    first = put(OLD)
    assert (put(NEW).before, put(NEW).sent) == (first.digest, 0)
    assert running(pi) == NEW


def test_a_machine_that_never_says_whether_it_is_free(pi: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "LOCK", 1.0)
    pi.altered = lambda command: "sleep 60" if "flock" in command else command
    with pytest.raises(RemoteError, match="pi: `flock` did not end within 1 s: is the machine busy"):
        put(OLD)


@pytest.mark.parametrize("said", ["", "-", "nan", "9" * 40, "-5", "1 2"])
def test_a_disk_that_is_not_there(pi: Machine, tmp_path: Path, said: str) -> None:
    (tmp_path / "fast" / "awk").write_text(f"#!/bin/sh\ncat >/dev/null; echo '{said}'\n")
    (tmp_path / "fast" / "awk").chmod(0o755)
    with pytest.raises(RemoteError, match=r"pi: `df` there tells no free space .*: is its disk there, and"):
        put(OLD)


def cut_at(pi: Machine, point: int) -> None:
    """Cut the connection before the machine takes its next command but `point`."""
    seen = len(pi.commands)

    def before(_: str) -> None:
        if len(pi.commands) - seen > point:
            raise ConnectionError

    pi.before = before


def test_a_cut_before_any_command_leaves_the_old_release(pi: Machine) -> None:
    put(OLD)
    start, cuts = len(pi.commands), 0
    while True:
        cut_at(pi, cuts)
        try:
            put(NEW)
        except UserError:
            pass
        else:
            break
        finally:
            pi.before = lambda _: None
        assert running(pi) in (OLD, NEW), cuts
        run = base(pi) / "ear" / "current" / "bin" / "run"
        assert subprocess.run([run], capture_output=True, check=True).stdout in (b"old\n", b"new\n")
        if running(pi) == NEW:
            put(OLD)
        cuts += 1
    assert cuts >= 8
    assert len(pi.commands) > start
    assert running(pi) == NEW


def test_a_power_cut_between_the_steps_of_a_command_leaves_a_whole_release(pi: Machine) -> None:
    put(OLD)
    tried = 0
    with Remote("pi") as remote:
        for number in range(20):
            for line in range(1, 12):
                if not (was := cut_within(pi, remote, number, line)):
                    break
                tried += 1
                assert running(pi) in (OLD, NEW), was
                if running(pi) == NEW:
                    deploy(remote, "ear", OLD, HEALTHY)
        deploy(remote, "ear", NEW, HEALTHY)
    assert tried > 15
    assert running(pi) == NEW


def cut_within(pi: Machine, remote: Remote, number: int, line: int) -> str:
    """Deploy, with the power gone behind `line` of the given command; return that, "" if there is no such."""
    seen, done = len(pi.commands), list[str]()

    def altered(command: str) -> str:
        lines = shlex.split(command)[-1].splitlines()
        if len(pi.commands) - seen != number + 1 or line >= len(lines):
            return command
        done.append("\n".join(lines[:line]))
        return f"sh -c {shlex.quote(done[-1] + chr(10) + 'exit 9')}"

    pi.altered = altered
    try:
        deploy(remote, "ear", NEW, HEALTHY)
    except UserError:
        pass
    finally:
        pi.altered = lambda command: command
    return done[0] if done else ""


def test_two_deploys_at_once(pi: Machine) -> None:
    failures, inside = list[str](), threading.Event()

    def other() -> None:
        inside.wait(30)
        try:
            put(NEW)
        except RemoteError as error:
            failures.append(str(error))
        finally:
            (pi.home / "go").touch()

    def before(command: str) -> None:
        if HEALTHY in command:
            inside.set()

    second = threading.Thread(target=other)
    second.start()
    pi.before = before
    put(OLD, health=f'{HEALTHY}; while [ ! -e "$HOME/go" ]; do sleep 0.1; done')
    second.join()
    assert failures == ["pi: another deploy is under way there: wait for its end, then run this again"]
    assert running(pi) == OLD
    put(NEW)
    assert running(pi) == NEW


def test_no_room(pi: Machine, tmp_path: Path) -> None:
    put(OLD)
    (tmp_path / "df").write_text("#!/bin/sh\necho head\necho fs 1000 900 20000 90% /\n")
    (tmp_path / "df").chmod(0o755)
    (tmp_path / "df").rename(tmp_path / "fast" / "df")
    with pytest.raises(RemoteError, match="pi: 19 MB are free there and 21 MB are needed: free some space"):
        put(NEW | {"large": os.urandom(5_500_000)})
    assert running(pi) == OLD


def test_a_file_that_the_card_has_damaged_is_sent_again(pi: Machine) -> None:
    put(OLD)
    damaged = base(pi) / "store" / deploying._sha256(OLD["model"])
    damaged.unlink()
    damaged.write_bytes(b"rotten")
    with pytest.raises(RemoteError, match="files there were damaged; they are removed, and sent anew"):
        put(OLD | {"more": b"1"})
    assert put(OLD | {"more": b"1"}).sent == 1
    assert running(pi) == OLD | {"more": b"1"}


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "a/b", "$(reboot)", "x" * 65])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UserError, match="a deployment is named with letters"):
        deploying.folder(name)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a b", "a\nb", ""])
def test_a_file_name_that_is_none(pi: Machine, name: str) -> None:
    with pytest.raises(UserError, match="no file of a release can have that name"):
        put({name: b""})
    assert not pi.commands
