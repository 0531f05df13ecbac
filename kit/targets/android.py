"""An Android phone over adb: the program in /data/local/tmp, timed on each kind of core with taskset."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from boards.errors import UserError
from kit import profile
from kit.progress import Progress
from kit.targets import benchmark_model
from kit.targets.adb import Phone, PhoneError, find

if TYPE_CHECKING:
    from firmware.compiler.program import Program
    from kit.device import Device
    from kit.measure import Test
    from kit.records import Run

FOLDER = "/data/local/tmp"  # what the shell may run programs in
BENCHMARK = f"{FOLDER}/benchmark_model"  # where LiteRT's documents put it: the user's, if it is there
ABIS = {"aarch64": "arm64-v8a", "armv7": "armeabi-v7a", "x86_64": "x86_64"}
WARM_UP, TIMED = 10, 30
BENCH_SECONDS = 300.0
_ASK = """cd /sys/devices/system/cpu; get() { cat "$1" 2>/dev/null || echo "$2"; }; for c in cpu[0-9]*; do
echo "$c $(get $c/cpufreq/cpuinfo_max_freq 0) $(get $c/cpu_capacity 0) $(get $c/online 1) \
$(get $c/cpufreq/scaling_governor unknown)"; done"""
_HEAT = "cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null; true"


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind."""

    mask: str  # as taskset takes it: hexadecimal
    cores: tuple[int, ...]
    mhz: float  # at most; 0 where the phone does not tell
    governor: str

    @property
    def title(self) -> str:
        """Return how it is called in notes."""
        clock = f" at most {self.mhz:,.0f} MHz" if self.mhz else ""
        numbers = ",".join(map(str, self.cores))
        return f"core {numbers}{clock}" if len(self.cores) == 1 else f"cores {numbers}{clock}"


def clusters(said: str) -> tuple[Cluster, ...]:
    """Return the kinds of cores, the fastest first, from lines `cpuN max_khz capacity online governor`."""
    kinds: dict[tuple[int, int], list[tuple[int, str]]] = {}
    for line in said.splitlines():
        found = re.fullmatch(r"cpu(\d{1,4}) (\d{1,9}) (\d{1,9}) ([01]) (\S{1,40})", line.strip())
        if found and found[4] == "1":
            kinds.setdefault((int(found[3]), int(found[2])), []).append((int(found[1]), found[5]))
    made = []
    for (_, khz), cores in sorted(kinds.items(), reverse=True):
        numbers = tuple(sorted(number for number, _ in cores))
        mask = f"{sum(1 << number for number in numbers):x}"
        made.append(Cluster(mask, numbers, khz / 1000, cores[0][1]))
    return tuple(made)


def flash(
    made: Program, port: str | None, tell: Callable[[str], None], progress: Progress, service: str | None
) -> dict[str, Any]:
    """Put the program on the phone `port` (its serial), or the only one, and see it answer.

    Raises:
        UserError: no phone, another processor, no space, or a service is asked for.
    """
    if service is not None:
        raise UserError("a phone has no services: `earkit export --as android` makes an app that listens")
    phone = find(port)
    machine = _fits(phone, made)
    data, place = made.program.read_bytes(), _place(made)
    tell(f"{phone.serial}: {machine['model']}, Android {machine['android']}")
    progress("push", 0, 1)
    before = phone.run(f"test -e {place}/program").rc == 0
    phone.push(data, f"{place}/next", 0o755)
    with _device(phone, made, "next") as device:
        info = device.info()
    if info.build_id != made.build_id:
        raise PhoneError(f"{phone.serial} runs build {info.build_id}, not {made.build_id}: flash again")
    phone.check(f"mv -f {place}/next {place}/program")
    progress("push", 1, 1)
    return {
        "board": made.board.name,
        "build_id": info.build_id,
        "bytes": len(data),
        "fallback": before,
        "method": "adb",
        "port": phone.serial,
        "machine": machine,
    }


def connect(made: Program, port: str | None) -> Device:
    """Return the program on the phone, on its fastest cores.

    Raises:
        UserError: no phone, or the program is not there.
    """
    phone = find(port)
    if phone.run(f"test -x {_place(made)}/program").rc:
        raise PhoneError(f"{phone.serial} has no {made.name}: `earkit flash` puts it there")
    kinds = clusters(phone.run(_ASK).text)
    return _device(phone, made, "program", kinds[0].mask if kinds else None)


def measured(made: Program, run: Run, port: str | None, progress: Progress, test: Test | None = None) -> Run:
    """Return the run with its times on each kind of core, and LiteRT's where benchmark_model lies there.

    Raises:
        UserError: the phone is not reached, or a run there is not the host's, bit for bit.
    """
    assert run.profile is not None
    phone = find(port)
    kinds = clusters(phone.run(_ASK).text)
    timed = []
    for number, kind in enumerate(kinds):
        progress("kinds of cores", number, len(kinds))
        timed.append(asdict(kind) | _timed(phone, made, kind))
    progress("kinds of cores", len(kinds), len(kinds))
    heat = [int(word) / 1000 for word in re.findall(r"(?<!\S)\d{1,9}(?!\S)", phone.run(_HEAT).text)]
    state = {"celsius": max((t for t in heat if 0 < t < 150), default=None), **_fits(phone, made)}
    told = {"serial": phone.serial, "state": state, "clusters": timed, "litert": _litert(phone, made, kinds)}
    notes = [*run.profile["notes"], *_notes(told)]
    return replace(run, profile={**run.profile, "phone": told, "notes": notes})


def _fits(phone: Phone, made: Program) -> dict[str, str]:
    """Return what the phone is; PhoneError where the program is for another processor."""
    names = {
        "model": "ro.product.model",
        "soc": "ro.soc.model",
        "android": "ro.build.version.release",
        "abis": "ro.product.cpu.abilist",
    }
    found = {key: phone.check(f"getprop {name}") for key, name in names.items()}
    wanted = ABIS[made.board.machine]
    if found["abis"] and wanted not in found["abis"].split(","):
        raise PhoneError(
            f"{phone.serial} runs {found['abis']}, {made.board.name} is {wanted}: compile for another --board"
        )
    return found


def _place(made: Program) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", made.name).lstrip("._-")[:64] or "model"
    return f"{FOLDER}/earkit/{name}"


def _device(phone: Phone, made: Program, file: str, mask: str | None = None) -> Device:
    from kit.device import Device

    pinned = f"taskset {mask} " if mask else ""
    wire = phone.start(f"exec {pinned}{_place(made)}/{file}")
    try:
        return Device(wire)
    except BaseException:
        wire.close()
        raise


def _timed(phone: Phone, made: Program, kind: Cluster) -> dict[str, Any]:
    """Return microseconds of a run on these cores; PhoneError when one gives something else than the host."""
    window = profile.trial_inputs(made.window, 1, 0)[0]
    given = profile.hops(made, window)[0] if made.stream else window
    wanted = None if made.stream else profile.on_host(made.graph, window[None])[0]
    with _device(phone, made, "program", kind.mask) as device:
        for _ in range(WARM_UP):
            output = device.infer(given.reshape(-1))
        if wanted is not None and not np.array_equal(output.ravel(), wanted.ravel()):
            raise PhoneError(f"{phone.serial}: {kind.title} give other outputs than the host: flash again")
        times = [device.profile(given.reshape(-1)).total / 1000 for _ in range(TIMED)]
    return {
        "median_us": float(np.median(times)),
        "min_us": min(times),
        "max_us": max(times),
        "runs": TIMED,
        "equal": None if wanted is None else True,
    }


def _litert(phone: Phone, made: Program, kinds: tuple[Cluster, ...]) -> dict[str, Any] | None:
    """Return what benchmark_model says on the fastest cores; None where the user has put none there."""
    if phone.run(f"test -x {BENCHMARK}").rc:
        return None
    model = f"{_place(made)}/model.tflite"
    phone.push(made.model, model)
    mask = kinds[0].mask if kinds else None
    done = phone.run(benchmark_model.command(BENCHMARK, model, 1, mask) + " 2>&1", BENCH_SECONDS)
    return benchmark_model.parse(done.text) | {"mask": mask, "threads": 1}


def _notes(told: dict[str, Any]) -> list[str]:
    notes = [
        f"one run on {Cluster(one['mask'], tuple(one['cores']), one['mhz'], one['governor']).title}: "
        f"{one['median_us']:,.0f} µs (median of {one['runs']}, {one['governor']})"
        for one in told["clusters"]
    ]
    if not told["clusters"]:
        notes.append("the phone does not tell its cores: nothing was pinned")
    if told["litert"] is None:
        notes.append(f"LiteRT was not measured: put its benchmark_model at {BENCHMARK}, executable")
    else:
        mean = told["litert"]["mean"]
        notes.append(f"LiteRT with XNNPACK, 1 thread, benchmark_model: {mean:,.0f} µs on average")
    return notes
