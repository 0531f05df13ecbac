"""A Raspberry Pi, or any machine with Linux, over SSH: releases with a runner, the program through a pipe."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from boards.errors import UserError
from kit.progress import Progress
from kit.runner import publish
from kit.runner.about import UNREADABLE, damage
from kit.runner.sound import STDIN
from kit.targets import deploy, probe, release, service, ssh_errors, wheels
from kit.targets.ssh import Remote, RemoteWire

if TYPE_CHECKING:
    from firmware.compiler.program import Program
    from kit.device import Device
    from kit.measure import Test
    from kit.records import Run
    from kit.runner.about import Int8

BENCH_SECONDS = 120.0  # that measuring all engines may take
INFER_SECONDS = 600.0


def flash(
    made: Program,
    port: str | None,
    tell: Callable[[str], None],
    progress: Progress,
    listen: str | None,
) -> dict[str, Any]:
    """Put the program, the model and a runner for it on the machine `port` as a release; measure it there.

    `listen`, arguments of the runner's `listen`, makes it a service that starts with the machine.

    Raises:
        UserError: the machine is not reached, another one, full, too old; the release is not healthy there.
    """
    with Remote(_host(port)) as remote:
        found = probe.examine(remote)
        probe.fits(found, made.board)
        options = None if listen is None else _options(listen, found)
        tell(
            f"{remote.host}: {found.model or found.machine}, Python {'.'.join(map(str, found.python or ()))}"
        )
        progress("fetch wheels", 0, 1)
        site = wheels.resolve(found)
        progress("fetch wheels", 1, 1)
        if not site.litert:
            tell(f"{remote.host}: no LiteRT for its Python: the program runs alone")
        files = release.files(made, release.some_inputs(made), site.files())
        name = deployment(made)
        start = again = service.restart(name)
        if options is not None:
            start = service.start(name, service.unit(name, options))
        done = deploy.deploy(remote, name, files, "./run check", start=start, again=again, progress=progress)
        bench = remote.record(f"cat {shlex.quote(done.folder)}/bench.json")
    chosen = bench["chosen"]
    tell(f"{port}: {_engine(chosen)} is the fastest there, of {_times(bench)}")
    return {
        "board": made.board.name,
        "build_id": made.build_id,
        "bytes": done.sent_bytes,
        "fallback": done.before not in (None, done.digest),
        "method": "ssh",
        "port": port,
        "release": done.digest,
        "files": done.files,
        "sent": done.sent,
        "service": None if listen is None else service.named(name),
        "machine": found.record(),
        "bench": bench,
    }


def connect(made: Program, port: str | None) -> Device:
    """Return the program of the release on the machine `port`.

    Raises:
        UserError: there is none, or the machine is not reached.
    """
    from kit.device import Device

    remote = Remote(_host(port))
    try:
        wire = RemoteWire(remote, f"exec {_current(remote, made)}/program")
        try:
            return Device(wire)
        except BaseException:
            wire.close()
            raise
    except BaseException:
        remote.close()
        raise


def measured(made: Program, run: Run, port: str | None, progress: Progress, test: Test | None) -> Run:
    """Return the run of a profile with the engines measured there, LiteRT's outputs and the machine's state.

    The windows of `test` are given to LiteRT there as well, and it gets its score.

    Raises:
        UserError: the machine is not reached, or has no such release.
    """
    from kit import profile

    assert run.profile is not None
    progress("engines there", 0, 1)
    told = dict(run.profile)
    with Remote(_host(port)) as remote:
        command = f"{_current(remote, made)}/run bench"
        bench = remote.record(command, BENCH_SECONDS)
        notes = [*told["notes"], _fared(bench), *bench["notes"]]
        if any(one["engine"] == "litert" for one in bench["engines"]):
            if test is None:
                given = release.some_inputs(made)
            else:
                given = profile.as_input(test.clips.windows.values, made.window)
            outputs = litert(remote, made, given)
            bench["litert"] = _beside(made, given, outputs)
            notes.append(_said(bench["litert"]))
            if test is not None:
                told = _scored(told, test, made, outputs)
    progress("engines there", 1, 1)
    return replace(run, profile={**told, "computer": bench, "notes": notes})


def deployment(made: Program) -> str:
    """Return the name of a build's deployment: that of its model."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", made.name).lstrip("._-")[:64] or "model"


def _options(listen: str, found: probe.Probe) -> list[str]:
    """Return the options of a service; UserError if the runner does not know or the machine not have them."""
    from kit.runner.__main__ import parser

    said = io.StringIO()
    try:
        words = shlex.split(listen)
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            asked = parser().parse_args(["--folder", "/", "listen", *words])
    except ValueError as error:
        raise UserError(f"--listening {listen!r}: {error}") from None
    except SystemExit:
        reason = " ".join(said.getvalue().splitlines()[-1:]).partition("error: ")[2]
        raise UserError(f"--listening {listen!r}: {reason or 'no options of a listener'}") from None
    if asked.mqtt is not None:
        publish.broker(asked.mqtt)
    if asked.websocket is not None:
        publish.place(asked.websocket)
    if asked.source == STDIN:
        raise UserError(f"--listening {listen!r}: a service has no stdin: name a microphone or a .wav there")
    if not found.systemd:
        raise UserError(f"{found.host} has no systemd for --service: leave it out, and start it your way")
    if not asked.source.endswith(".wav") and not found.arecord:
        raise UserError(f"{found.host} has no arecord for its microphone: sudo apt install alsa-utils there")
    return words


def _scored(told: Mapping[str, Any], test: Test, made: Program, outputs: Int8) -> dict[str, Any]:
    """Return a profile with the score of LiteRT's outputs there beside the others."""
    from kit.figures import measure_of
    from kit.pipeline import BUNDLE
    from quantize import bundle as bundles

    metric = measure_of(told).key
    score = test.clips.score(outputs, bundles.load(made.path / BUNDLE).outputs[0])
    origins = {**told["origins"], f"{metric}.device_litert": "measured"}
    return {**told, metric: {**told[metric], "device_litert": score}, "origins": origins}


def _host(port: str | None) -> str:
    if port is None:
        raise UserError("a machine with Linux is reached over SSH: --host user@name")
    return port


def _current(remote: Remote, made: Program) -> str:
    """Return the folder of the release that runs there, for `sh`; UserError when there is none."""
    name = deployment(made)
    if deploy.current(remote, name) is None:
        raise UserError(
            f"{remote.host} has no {name}: `earkit flash` with --host {remote.host} puts it there"
        )
    return f'"$HOME"/{deploy.folder(name)}/current'


def litert(remote: Remote, made: Program, inputs: Int8) -> Int8:
    """Return what LiteRT there says to windows (N, *input), with one thread: int8 (N, outputs).

    Raises:
        UserError: there is no such release, or LiteRT does not run there.
    """
    packed = io.BytesIO()
    np.save(packed, inputs, allow_pickle=False)
    done = remote.run(f"{_current(remote, made)}/run infer", packed.getvalue(), INFER_SECONDS)
    if done.rc:
        reason = ssh_errors.reason(done.words)
        raise UserError(f"{remote.host}: LiteRT does not run there ({reason}): run `earkit flash` again")
    try:
        with np.load(io.BytesIO(done.out), allow_pickle=False) as arrays:
            return np.asarray(arrays["outputs"], np.int8).reshape(len(inputs), -1)
    except UNREADABLE as error:
        raise UserError(f"{remote.host}: what LiteRT said there {damage(error)}") from None


def _beside(made: Program, inputs: Int8, there: Int8) -> dict[str, Any]:
    """Return how LiteRT's outputs there lie beside LiteRT's here and the definition's, in steps of int8."""
    from kit import profile

    here = release.litert(made.model, inputs)
    ours = profile.wanted(made, inputs)
    return {
        "inputs": len(inputs),
        "off_host_litert": int(np.abs(there.astype(int) - here).max(initial=0)),
        "off_definition": int(np.abs(there.astype(int) - ours).max(initial=0)),
        "same_class": float(np.mean(there.argmax(axis=1) == ours.argmax(axis=1))),
    }


def _said(beside: Mapping[str, Any]) -> str:
    count, here, ours = (beside[key] for key in ("inputs", "off_host_litert", "off_definition"))
    same = "bit for bit those of this machine's"
    if here:
        same = f"up to {here} from this machine's, as its softmax is between processors,"
    return (
        f"LiteRT's outputs there are {same} on {count} inputs, and up to {ours} steps of int8 from the "
        "program's, which rounds twice where LiteRT rounds once"
    )


def _fared(bench: Mapping[str, Any]) -> str:
    """Return the times of the engines and the state in which the machine was."""
    after = bench["after"]
    clocks = f"{max(after['mhz']):,.0f} MHz" if after["mhz"] else "a clock that it does not tell"
    heat = "" if after["celsius"] is None else f", {after['celsius']:.0f} °C"
    governed = f", governor {'/'.join(after['governor'])}" if after["governor"] else ""
    return f"one run there: {_times(bench)}; {after['model']} at {clocks}{governed}{heat}"


def _times(bench: Mapping[str, Any]) -> str:
    return ", ".join(f"{_engine(one)} {one['median_us']:,.0f} µs" for one in bench["engines"])


def _engine(one: Mapping[str, Any]) -> str:
    if one["engine"] == "program":
        return "the program"
    return f"LiteRT with {one['threads']} thread{'' if one['threads'] == 1 else 's'}"
