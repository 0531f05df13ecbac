"""Computers: how a program gets there and is talked to; one module here for each kind that runs programs.

A module `kit.targets.<kind>` has
    flash(made, port, tell, progress, service) -> what `flash --json` prints: puts it there, sees it answer;
        service: None, or how it listens whenever the computer runs, as options of its runner
    connect(made, port) -> the Device that runs it there
    measured(made, run, port, progress, test) -> the run with what only such a computer tells: engines, heat
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from boards.errors import UserError
from kit.progress import Progress, silent

if TYPE_CHECKING:
    from firmware.compiler.program import Program
    from kit.device import Device
    from kit.measure import Test
    from kit.records import Run

LOCAL = "local"  # the port that is this machine
MACHINES = {"x86_64": "x86_64", "aarch64": "aarch64", "armv7l": "armv7"}  # by their uname


def flash(
    made: Program,
    port: str | None,
    tell: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
    *,
    service: str | None = None,
) -> dict[str, Any]:
    """Put a program on its computer and see it answer; `service`: how it listens from then on.

    Raises:
        UserError: no port, the computer cannot be reached or refuses, or this machine needs no flashing.
    """
    if port == LOCAL:
        raise UserError(
            f"--host {LOCAL} needs no flashing: listen, run and profile take {made.program} as it lies"
        )
    record: dict[str, Any] = _kind(made, port).flash(made, port, tell, progress, service)
    return record


def connect(made: Program, port: str | None) -> Device:
    """Return the program as a device, on its computer or, with LOCAL, as a child of this process.

    Raises:
        UserError: no port, nothing answers, or it was made for another machine.
    """
    if port == LOCAL:
        return _here(made)
    device: Device = _kind(made, port).connect(made, port)
    return device


def measured(
    made: Program, run: Run, port: str | None, progress: Progress = silent, test: Test | None = None
) -> Run:
    """Return the run of a profile (on the clips of `test`) with what only this kind of computer can tell."""
    if port == LOCAL:
        return run
    told: Run = _kind(made, port).measured(made, run, port, progress, test)
    return told


def _here(made: Program) -> Device:
    from kit.device import Device
    from kit.pipe_wire import PipeWire

    machine, system = MACHINES.get(platform.machine(), platform.machine()), platform.system()
    if (machine, system) != (made.board.machine, "Linux"):
        raise UserError(
            f"{made.board.name} is {made.board.machine} with Linux, this machine is {machine} with {system}: "
            "compile for another --board"
        )
    wire = PipeWire([str(made.program.absolute())])
    try:
        return Device(wire)
    except BaseException:
        wire.close()
        raise


def _kind(made: Program, port: str | None) -> Any:
    if port is None and made.board.kind != "android":  # adb finds the only phone
        raise UserError(
            f"{made.board.name} is reached over SSH: --host user@name; this machine is --host {LOCAL}"
        )
    return import_module(f"kit.targets.{made.board.kind}")
