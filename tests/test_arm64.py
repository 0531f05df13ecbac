"""A Raspberry Pi 4 of qemu-user and SSH: the shipped wheels, the runner and the program compute as here."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boards.errors import UserError
from firmware.compiler.program import Program
from kit import device, pipeline, profile, shelf, targets
from kit.targets import linux, release
from kit.targets.ssh import Remote
from tests import arm64_root, ssh_server

MODEL = "panns-micro-esc10"  # LiteRT's softmax of others differs by 1 between processors


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def emulated(made: Program, folder: Path) -> Program:
    """Return a build whose program starts itself in the emulator."""
    shutil.copytree(made.path, folder)
    qemu = shlex.join([shutil.which(arm64_root.QEMU) or "", "-cpu", arm64_root.CPU, str(made.program)])
    write(folder / "program", f'exec {qemu} "$@"')
    return replace(made, path=folder)


def test_a_pi_computes_what_this_machine_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = arm64_root.root()
    compiled = pipeline.compile(shelf.find(MODEL), "pi4", tmp_path / MODEL)
    assert isinstance(compiled, Program)
    made = emulated(compiled, tmp_path / "emulated")
    programs = tmp_path / "programs"
    programs.mkdir()
    write(programs / "uname", "echo aarch64")
    write(programs / "sync", "")
    write(programs / "python3", f'exec {shlex.join(arm64_root.python(place))} "$@"')
    with ssh_server.machine(tmp_path, monkeypatch) as pi:
        pi.environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        try:
            record = targets.flash(made, "pi")
        except UserError as error:
            if "no network" in str(error):
                pytest.skip(f"needs wheels: {error}")
            raise
        assert record["machine"]["machine"] == "aarch64"
        assert record["bench"]["before"]["system"].endswith("aarch64")
        engines = [(one["engine"], one["off"]) for one in record["bench"]["engines"]]
        assert engines[:2] == [("program", 0), ("litert", 0)]  # bit for bit, on the bundle's own inputs
        x = profile.trial_inputs(made.window, 12, seed=5)
        with device.open(made, "pi") as board:
            assert np.array_equal([board.infer(one) for one in x], profile.on_host(made.graph, x))
        with Remote("pi") as remote:
            assert np.array_equal(linux.litert(remote, made, x), release.litert(made.model, x))
