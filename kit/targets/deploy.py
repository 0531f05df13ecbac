"""Releases on another machine: only what changed is sent, and nothing runs before it has proved healthy.

    ~/.local/share/earkit/store/SHA256            every file once, whoever uses it
    ~/.local/share/earkit/NAME/releases/DIGEST/   links to those
    ~/.local/share/earkit/NAME/current            a symbolic link to the release that runs

`current` moves by one rename, after the health check: a power cut at any point leaves the old one there.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boards.errors import UserError
from kit.progress import Progress, silent
from kit.targets import ssh_errors
from kit.targets.ssh import Done, LateError, Remote, RemoteError

BASE = ".local/share/earkit"  # in the home folder there
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FILE = re.compile(r"(?!/)(?!(.*/)?\.\.(/|$))[^\s\\]+")  # within its release, and read back by scripts
SPARE = 16 << 20  # bytes that stay free
HEALTH = 300.0  # seconds that a health check or a start may take
LOCK = 60.0  # seconds until a machine must have said whether it is free for us
DIGITS = 16  # of a release's name

_BEGIN = 'set -e; umask 077; cd "$HOME/.local/share/earkit"'
_LOCK = """set -e; umask 077; mkdir -p "$HOME/.local/share/earkit/store"; cd "$HOME/.local/share/earkit"
exec 9>lock
flock -n 9 || { [ $? = 1 ] && echo busy; exit 1; }
echo locked
cat >/dev/null"""
_MISSING = f"""{_BEGIN}
rm -rf store/.put-* */releases/*.part
while read -r sum; do [ -f "store/$sum" ] || echo "$sum"; done"""
_FREE = "df -Pk \"$HOME\" | awk 'NR == 2 { print $4 }'"
_BUILD = f"""{_BEGIN}
mkdir -p NAME/releases; cd NAME/releases
rm -rf DIGEST.old; mkdir DIGEST.part
cat >DIGEST.part/SHA256SUMS
if (cd DIGEST && sha256sum -c ../DIGEST.part/SHA256SUMS) >/dev/null 2>&1; then rm -rf DIGEST.part; exit; fi
cut -c67- DIGEST.part/SHA256SUMS | sed -n 's|/[^/]*$||p' | sort -u | (cd DIGEST.part; xargs -r mkdir -p)
while read -r sum name; do ln "../../store/$sum" "DIGEST.part/$name"; done <DIGEST.part/SHA256SUMS
(cd DIGEST.part; sha256sum -c SHA256SUMS >/dev/null 2>&1) || {{
    rm -rf DIGEST.part; cd ../../store
    for sum in *; do echo "$sum  $sum"; done | sha256sum -c 2>/dev/null |
        sed -n 's/: FAILED.*//p' | xargs -r rm -f
    echo "files there were damaged; they are removed, and sent anew the next time" >&2; exit 1
}}
sync
[ ! -e DIGEST ] || mv DIGEST DIGEST.old
mv DIGEST.part DIGEST
rm -rf DIGEST.old
sync"""
_CURRENT = f"""{_BEGIN}
[ ! -d NAME/current/ ] || readlink NAME/current | sed -n 's|^releases/\\([0-9a-f]*\\)$|\\1|p'"""
_SWITCH = f"""{_BEGIN}
cd NAME
ln -sfn releases/DIGEST next
mv -T next current
sync"""
_CLEAN = f"""{_BEGIN}
for old in NAME/releases/*; do case "${{old##*/}}" in KEEP) ;; *) rm -rf "$old" ;; esac; done
find store -type f -links 1 -delete"""


@dataclass(frozen=True)
class Deployed:
    """A release that runs now. `folder` is relative to the home folder there."""

    folder: str
    digest: str
    before: str | None  # the release that ran before, this one or another
    files: int
    sent: int  # of these files
    sent_bytes: int


def folder(name: str) -> str:
    """Return where the releases of `name` are, relative to the home folder; UserError for an odd name."""
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r}: a deployment is named with letters, digits, '.', '_' and '-', at most 64")
    return f"{BASE}/{name}"


def deploy(
    remote: Remote,
    name: str,
    files: Mapping[str, bytes | Path],
    health: str,
    *,
    start: str = "true",
    again: str = "true",
    patience: float = HEALTH,
    progress: Progress = silent,
) -> Deployed:
    """Let `files` be the release of `name` that runs, once `health` has passed in its folder.

    Args:
        remote: the machine.
        name: of the deployment.
        files: what it consists of, names with folders in front.
        health: a command for `sh`, run in the new release before it is switched to.
        start: one that starts what `current` holds; when it fails, the old release comes back.
        again: one that starts that as it was before.
        patience: seconds that the health check may take.
        progress: hears of bytes sent.

    Raises:
        UserError: another deploy is under way, no space, the health check or the start failed (the old
            release runs on), or what `Remote` raises.
    """
    place = folder(name)
    sums = {file: _sha256(content) for file, content in sorted(files.items())}
    listed = "".join(f"{digest}  {file}\n" for file, digest in sums.items())
    for file in files:
        if not FILE.fullmatch(file):
            raise UserError(f"{file!r}: no file of a release can have that name")
    digest = hashlib.sha256(listed.encode()).hexdigest()[:DIGITS]
    with _locked(remote):
        sent, sent_bytes = _send(remote, {sums[file]: files[file] for file in files}, progress)
        before = remote.check(_filled(_CURRENT, name)) or None
        remote.check(_filled(_BUILD, name, digest), listed.encode(), 600.0)
        there = f"{place}/releases/{digest}"
        progress("check there", 0, 1)
        _examine(remote, name, digest, health, patience, before)
        _switch(remote, name, digest, before, start, again)
        progress("check there", 1, 1)
        if before != digest:  # else the release before this one stays as well
            remote.check(_filled(_CLEAN, name, keep=f"{digest}|{before or digest}"))
    return Deployed(there, digest, before, len(files), sent, sent_bytes)


def current(remote: Remote, name: str) -> str | None:
    """Return the digest of the release of `name` that runs there, None if there is none."""
    done = remote.run(_filled(_CURRENT, name))
    return done.text or None if done.rc == 0 else None


@contextmanager
def _locked(remote: Remote) -> Iterator[None]:
    """Hold the lock there; it goes with the connection, however that ends."""
    with subprocess.Popen(
        remote.arguments(_LOCK),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stderr
        late = threading.Timer(LOCK, holder.kill)
        late.start()
        said = next((line for line in holder.stdout if line in (b"busy\n", b"locked\n")), b"")
        late.cancel()
        if said == b"busy\n":
            raise RemoteError(
                f"{remote.host}: another deploy is under way there: wait for its end, then run this again"
            )
        if said != b"locked\n":
            words, code = holder.stderr.read().decode("utf-8", "replace"), holder.wait()
            if code < 0:
                raise LateError(ssh_errors.late(remote.host, "flock", LOCK))
            raise RemoteError(ssh_errors.failed(remote.host, "flock", code, words))
        try:
            yield
        finally:
            holder.stdin.close()
            holder.stdout.read()  # it has let go


def _send(remote: Remote, content: Mapping[str, bytes | Path], progress: Progress) -> tuple[int, int]:
    """Put there what is missing; return how many files and bytes that was."""
    said = remote.check(_MISSING, "".join(f"{digest}\n" for digest in content).encode())
    missing = [digest for digest in said.split() if digest in content]
    total = sum(_size(content[digest]) for digest in missing)
    told = remote.check(_FREE)
    if not (told.isdecimal() and len(told) < DIGITS):
        raise RemoteError(
            f"{remote.host}: `df` there tells no free space for the home folder ({told[:40]!r}): is its disk "
            "there, and mounted?"
        )
    free = int(told) << 10
    if total + SPARE > free:
        raise RemoteError(
            f"{remote.host}: {free >> 20:,} MB are free there and {(total + SPARE) >> 20:,} MB are needed: "
            "free some space (`df -h`), then run the same command again"
        )
    progress("send", 0, total)
    remote.put({digest: content[digest] for digest in missing}, f"{BASE}/store")
    progress("send", total, total)
    return len(missing), total


def _examine(
    remote: Remote, name: str, digest: str, health: str, patience: float, before: str | None
) -> None:
    """Run the health check of a release; UserError if it fails, and unless it runs already it goes."""
    command = f'cd "$HOME/{folder(name)}/releases/{digest}"\n{health}'
    done = _tried(remote, command, patience)
    if done.rc == 0:
        return
    if before != digest:
        remote.check(f'{_BEGIN}\nrm -rf "{name}/releases/{digest}"')
    rest = f"release {before} runs on" if before else "nothing is switched to it"
    reason = ssh_errors.reason(done.words)
    raise RemoteError(f"{remote.host}: the new release is not healthy ({reason}); {rest}")


def _switch(remote: Remote, name: str, digest: str, before: str | None, start: str, again: str) -> None:
    """Let `current` be the release and start it; back to the one before when it does not start."""
    remote.check(_filled(_SWITCH, name, digest))
    done = _tried(remote, start, HEALTH)
    if done.rc == 0:
        return
    reason = ssh_errors.reason(done.words)
    if before is None:
        remote.check(f"{_BEGIN}\nrm -f {name}/current")
        raise RemoteError(f"{remote.host}: the release does not start ({reason}), and there is no other one")
    remote.check(_filled(_SWITCH, name, before))
    works = _tried(remote, again, HEALTH).rc == 0
    rest = f"release {before} runs again" if works else f"release {before} is back but does not start either"
    raise RemoteError(f"{remote.host}: the new release does not start ({reason}); {rest}")


def _tried(remote: Remote, command: str, patience: float) -> Done:
    """Run `command` there; one that does not end has failed."""
    try:
        return remote.run(command, timeout=patience)
    except LateError:
        return Done(1, b"", f"it did not end within {patience:.0f} s".encode())


def _filled(script: str, name: str, digest: str = "", keep: str = "") -> str:
    folder(name)
    return script.replace("KEEP", keep).replace("DIGEST", digest).replace("NAME", shlex.quote(name))


def _size(content: bytes | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
