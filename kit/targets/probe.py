"""What a Linux machine is and has, asked before anything is sent, and why a model cannot go there."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from boards import computers
from boards.computers import Computer
from boards.errors import UserError
from kit.targets.ssh import Remote

PYTHON = (3, 9)  # the runner's least
TOOLS = ("flock", "sha256sum", "tar", "xargs")  # that a deploy takes
LONGEST = 100  # characters of an answer
NUMBER = re.compile(r"[0-9]{1,3}")  # of a version
MARK = "earkit-probe "  # before each answer: a login may say other things first
_ASK = f"""say() {{ echo "{MARK}$1=$2"; }}
say kernel "$(uname -m)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/.* //')"
say model "$(tr -d '\\0' </proc/device-tree/model 2>/dev/null)"
say free "$(df -Pk "$HOME" | awk 'NR == 2 {{ print $4 }}')"
say memory "$(awk '$1 == "MemTotal:" {{ print $2 }}' /proc/meminfo)"
say python "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
say numpy "$(python3 -c 'import numpy; print(numpy.__version__)' 2>/dev/null)"
say arecord "$(command -v arecord)"
say cards "$(grep -c ']:' /proc/asound/cards 2>/dev/null)"
say systemd "$(command -v systemctl)"
for tool in {" ".join(TOOLS)}; do command -v "$tool" >/dev/null || say missing "$tool"; done"""


@dataclass(frozen=True)
class Probe:
    """A Linux machine. Bytes; empty or zero where it does not tell."""

    host: str
    machine: str  # of its programs, as computers call it
    kernel: str  # as `uname -m` says
    glibc: tuple[int, int] | None  # None: another C library, such as musl
    model: str
    free_bytes: int
    ram_bytes: int
    python: tuple[int, int] | None
    numpy: str
    arecord: bool
    cards: int
    systemd: bool
    missing: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return it as JSON prints it."""
        return asdict(self)


def examine(remote: Remote) -> Probe:
    """Ask a machine what it is."""
    said = remote.check(_ASK)
    lines = [_plain(line[len(MARK) :]) for line in said.splitlines() if line.startswith(MARK)]
    pairs = [line.partition("=")[::2] for line in lines]
    told = dict(pairs)
    return Probe(
        host=remote.host,
        machine=_machine(told.get("kernel", ""), told.get("bits", "")),
        kernel=told.get("kernel", ""),
        glibc=_version(told.get("glibc", "")),
        model=told.get("model", ""),
        free_bytes=_number(told.get("free", "")) << 10,
        ram_bytes=_number(told.get("memory", "")) << 10,
        python=_version(told.get("python", "")),
        numpy=told.get("numpy", ""),
        arecord=bool(told.get("arecord")),
        cards=_number(told.get("cards", "")),
        systemd=bool(told.get("systemd")),
        missing=tuple(value for key, value in pairs if key == "missing"),
    )


def fits(probe: Probe, board: Computer, *, python: bool = True) -> None:
    """Raise UserError if what is compiled for `board` does not run there, or the runner does not."""
    host = probe.host
    if not probe.machine:
        raise UserError(f"{host} does not say what machine it is: what does `uname -m` say there?")
    if probe.machine != board.machine:
        kernel = f" (on a kernel for {probe.kernel})" if probe.kernel[:5] != probe.machine[:5] else ""
        raise UserError(
            f"{host} is {probe.machine}{kernel}, {board.name} {board.machine}: {_cure(probe, board)}"
        )
    if probe.missing:
        raise UserError(f"{host} has no {', '.join(probe.missing)}: install them there (sudo apt install …)")
    if not python:
        return
    least = ".".join(map(str, PYTHON))
    if probe.python is None:
        raise UserError(f"{host} has no python3: sudo apt install python3 there ({least} or later)")
    if probe.python < PYTHON:
        found = ".".join(map(str, probe.python))
        raise UserError(f"{host} has Python {found}, the runner needs {least}: put a newer system there")


def _cure(probe: Probe, board: Computer) -> str:
    fitting = [name for name in computers.names() if computers.load(name).machine == probe.machine]
    if probe.machine == "armv7" and board.machine == "aarch64":
        return "its system has 32 bits: put the 64-bit system there, or compile with --board linux-armv7"
    if fitting:
        return f"compile with --board {', '.join(fitting)}"
    return "the kit has no board of that kind"


def _machine(kernel: str, bits: str) -> str:
    """Return what its programs are made for: a 64-bit kernel may carry a 32-bit system."""
    if kernel.startswith(("armv7", "armv8")) or (kernel == "aarch64" and bits == "32"):
        return "armv7"
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(kernel, kernel)


def _plain(text: str) -> str:
    """Return what of an answer may be printed."""
    return "".join(filter(str.isprintable, text))[:LONGEST]


def _version(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if NUMBER.fullmatch(major) and NUMBER.fullmatch(minor) else None


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else 0
