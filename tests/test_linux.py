"""A machine with Linux over SSH, which is this one: flashed, measured, listening, updated and rolled back.

Times that come up here are of the machine that runs the tests, whatever the board is called.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boards.errors import UserError
from firmware.compiler.program import Program
from kit import device, ears, listen, pipeline, profile, shelf, targets
from kit.audio import Samples
from kit.detect import Detector
from kit.records import Detection
from kit.runner.about import BENCH
from kit.targets import deploy, linux, release, wheels
from kit.targets.ssh import Remote
from kit.targets.wheels import Wheels
from models.frontend import FrontEnd
from tests import ssh_server
from tests.ssh_server import Machine

MODEL = "panns-micro-esc10"
HERE = {"x86_64": "linux-x86_64"}.get(platform.machine(), "pi4")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Program:
    compiled = pipeline.compile(shelf.find(MODEL), HERE, tmp_path_factory.mktemp("program") / MODEL)
    assert isinstance(compiled, Program)
    return compiled


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Give a machine whose python3 is this one, so that no wheels are fetched."""
    with ssh_server.machine(tmp_path, monkeypatch) as here:
        programs = tmp_path / "programs"
        programs.mkdir()
        write(programs / "python3", f'exec "{sys.executable}" "$@"')
        write(programs / "sync", "")
        here.environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        monkeypatch.setattr(wheels, "resolve", lambda _: Wheels((), litert=True))
        yield here


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def put(made: Program, service: str | None = None) -> dict[str, Any]:
    return targets.flash(made, "pi", service=service)


def place(pi: Machine) -> Path:
    return pi.home / deploy.folder(MODEL) / "current"


def test_a_program_is_flashed_measured_and_answers(made: Program, pi: Machine) -> None:
    told: list[str] = []
    record = targets.flash(made, "pi", told.append)
    assert record["build_id"] == made.build_id
    assert record["files"] - 1 == record["sent"] > 10  # two empty modules are the same file
    engines = {(one["engine"], one["threads"]): one for one in record["bench"]["engines"]}
    assert {("program", 1), ("litert", 1)} <= set(engines)
    assert all(one["off"] == 0 for one in engines.values())
    fastest = min(engines.values(), key=lambda one: float(one["median_us"]))
    chosen = engines[record["bench"]["chosen"]["engine"], record["bench"]["chosen"]["threads"]]
    assert chosen["median_us"] <= 1.05 * fastest["median_us"]
    assert "is the fastest there" in told[-1]
    json.dumps(record)
    again = put(made)
    assert (again["sent"], again["release"]) == (0, record["release"])
    x = profile.trial_inputs(made.window, 3, 0)
    with device.open(made, "pi") as board:
        assert board.origin == "measured"
        assert np.array_equal([board.infer(one) for one in x], profile.on_host(made.graph, x))
    pi.altered = lambda command: f"echo Welcome to your Pi; {command}"
    with device.open(made, "pi") as board:
        assert board.info().build_id == made.build_id
    pi.altered = lambda command: f"{command} | head -c 200" if "/run infer" in command else command
    with Remote("pi") as remote, pytest.raises(UserError, match="what LiteRT said there is damaged"):
        linux.litert(remote, made, np.asarray(x, np.int8))
    pi.altered = lambda command: command
    changed = replace(made, labels=tuple(reversed(made.labels)))
    assert put(changed)["sent"] == 1
    with pytest.raises(UserError, match=r"runs build .*, not 0000: run `earkit flash` first"):
        device.open(replace(made, build_id="0000"), "pi")


def test_a_streaming_program_is_checked_step_by_step(made: Program, pi: Machine, tmp_path: Path) -> None:
    streaming = pipeline.compile(shelf.find(MODEL), HERE, tmp_path / MODEL, hop="100ms")
    assert isinstance(streaming, Program)
    record = put(streaming)
    (only,) = record["bench"]["engines"]  # LiteRT has whole windows only
    assert (only["engine"], only["off"]) == ("program", 0)
    assert only["most_us"] < 1e9
    write_wav(pi.home / "x.wav", bursts(made))
    command = [place(pi) / "run", "listen", "--source", pi.home / "x.wav", "--fast", "--threshold", "0.3"]
    environment = {**os.environ, **pi.environment}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout.splitlines()[0])["event"] in made.labels
    done = subprocess.run(
        [*command, "--engine", "litert"], capture_output=True, text=True, check=False, env=environment
    )
    assert "is a streaming model, which LiteRT does not run" in done.stderr


def test_a_profile_has_litert_beside_the_program(made: Program, pi: Machine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"pi has no {MODEL}: `earkit flash` with --host pi puts it there"):
        device.open(made, "pi")
    data = clips(tmp_path / "data", made)
    put(made)
    run = pipeline.profile(made.path, data=str(data), port="pi", held_out="5")
    record = run.profile
    assert record is not None
    assert (record["board"], record["unit"], record["mismatches"]) == (HERE, "nanoseconds", 0)
    assert 0 <= record["accuracy"]["device_litert"] <= 1
    lite = record["computer"]["litert"]
    assert lite["off_host_litert"] == 0
    assert lite["off_definition"] <= 3
    assert any(note.startswith("one run there: the program ") for note in record["notes"])
    assert any("rounds twice where LiteRT rounds once" in note for note in record["notes"])
    assert record["computer"]["after"]["system"].startswith("Linux")


def clips(folder: Path, made: Program) -> Path:
    """Write a few clips in ESC-50's layout, of the model's classes."""
    rng = np.random.default_rng(1)
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for number in range(5 * len(made.labels)):
        target, fold = number % len(made.labels), number // len(made.labels) + 1
        name = f"{fold}-{number}-A-{target}.wav"
        samples = rng.normal(0, 3000, 16_000 * 2).astype(np.int16)
        write_wav(folder / "audio" / name, samples)
        rows.append(f"{name},{fold},{target},{made.labels[target]},True,{number},A")
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_wav(path: Path, samples: Samples, rate: int = 16_000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def bursts(made: Program) -> Samples:
    """Return sound in which the model hears something: noise that comes and goes, tones between."""
    assert made.frontend is not None
    rate = FrontEnd(**made.frontend).sample_rate
    rng, time = np.random.default_rng(3), np.arange(3 * rate) / rate
    noise = rng.normal(0, 6000, time.size) * (time % 1 < 0.4)
    tone = 9000 * np.sin(2 * np.pi * 440 * time) * (time % 0.5 < 0.3)
    return np.concatenate([noise, tone, 0 * time, noise + tone]).astype(np.int16)


@pytest.mark.parametrize("engine", ["program", "litert", "auto"])
def test_it_listens_there_as_here(made: Program, pi: Machine, engine: str) -> None:
    put(made)
    samples = bursts(made)
    write_wav(pi.home / "x.wav", samples)
    command = [place(pi) / "run", "listen", "--source", pi.home / "x.wav", "--fast", "--threshold", "0.3"]
    environment = {**os.environ, **pi.environment}
    done = subprocess.run(
        [*command, "--engine", engine], capture_output=True, text=True, check=True, env=environment
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    ran = json.loads((place(pi) / BENCH).read_text())["chosen"]["engine"] if engine == "auto" else engine
    wanted = heard_here(made, samples, litert=ran == "litert")
    assert len(wanted) > 1
    assert [event["event"] for event in events] == [event.label for event in wanted]
    assert [event["start"] for event in events] == [round(event.start, 3) for event in wanted]
    assert all(event["model"] == MODEL and event["time"].endswith("+00:00") for event in events)


def heard_here(made: Program, samples: Samples, *, litert: bool) -> list[Detection]:
    """Return the events in `samples` by the program, or LiteRT behind the program's front end, here."""
    meant = listen.meaning(made)
    detector = Detector(meant, listen.Rules(threshold=0.3))
    with device.open(made, targets.LOCAL) as board:
        results = list(board.stream([samples], meant.hop_frames, features_only=litert))
    outputs = np.stack([result.output for result in results])
    if litert:
        outputs = release.litert(made.model, outputs)
    begun = [
        detector.step(result.sample, meant.probabilities(output))[1]
        for result, output in zip(results, outputs, strict=True)
    ]
    return [event for event in begun if event]


def test_the_program_hears_the_microphone_there(made: Program, pi: Machine, tmp_path: Path) -> None:
    put(made)
    samples = bursts(made)
    (tmp_path / "raw").write_bytes(samples.tobytes())
    write(tmp_path / "programs" / "arecord", f'echo "$@" >"{tmp_path}/asked"; exec cat "{tmp_path}/raw" -')
    told: list[Detection] = []
    meant, stop = listen.meaning(made), threading.Event()

    def tell(event: Detection) -> None:
        told.append(event)
        if event == wanted[-1]:
            stop.set()

    wanted = heard_here(made, samples, litert=False)
    with device.open(made, "pi") as board:
        rules = listen.Rules(threshold=0.3)
        heard = ears.listen(board, made.board, meant, rules, tell=tell, stop=stop)
    missed = [event for event in wanted if event not in told]  # all sound came at once: it keeps a few
    assert (told[-1], len(told) + len(missed)) == (wanted[-1], len(wanted))
    assert heard.state.untold >= len(missed)
    assert (heard.origin, heard.unit) == ("measured", "nanoseconds")
    assert "-r 16000" in (tmp_path / "asked").read_text()


def test_it_hears_stdin_and_says_what_is_wrong(made: Program, pi: Machine) -> None:
    put(made)
    samples, run = bursts(made), place(pi) / "run"

    def ran(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, **pi.environment}
        return subprocess.run(
            [run, *arguments], input=stdin, capture_output=True, check=False, env=environment
        )

    done = ran("listen", "--source", "-", "--threshold", "0.3", stdin=samples.tobytes())
    assert done.returncode == 0
    assert b'"event": ' in done.stdout
    for arguments, line in (
        (("--source", "absent.wav"), b"absent.wav: not a wav file"),
        (("--source", "-", "--mqtt", "broker"), b"is no broker"),
        (("--source", "-", "--websocket", "x"), b"is no address"),
    ):
        done = ran("listen", *arguments)
        assert done.returncode == 1
        assert line in done.stderr
        assert b"Traceback" not in done.stderr


def test_a_program_that_computes_otherwise_never_runs(made: Program, pi: Machine, tmp_path: Path) -> None:
    put(made)
    other = pipeline.compile(shelf.find("panns-micro-fsdd"), HERE, tmp_path / "other")
    assert isinstance(other, Program)
    for wrong, line in ((other.program.read_bytes(), "program"), (b"#!/bin/sh\nexit 3\n", "exit code 3")):
        broken = tmp_path / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(made.path, broken)
        (broken / "program").write_bytes(wrong)
        with pytest.raises(
            UserError, match=rf"new release is not healthy \(.*{line}.*\); release .* runs on"
        ):
            put(replace(made, path=broken))
    with device.open(made, "pi") as board:
        assert board.info().build_id == made.build_id


def test_a_board_of_another_kind_is_refused_before_anything_is_sent(pi: Machine, tmp_path: Path) -> None:
    other = "pi4" if HERE != "pi4" else "linux-x86_64"
    built = pipeline.compile(shelf.find(MODEL), other, tmp_path / "other")
    assert isinstance(built, Program)
    with pytest.raises(UserError, match=rf"pi is {platform.machine()}, {other} .*: compile with --board"):
        put(built)
    assert not (pi.home / ".local").exists()


SYSTEMCTL = """
units="$HOME/.config/systemd/user"
[ "$1" = --user ] || exit 9
case "$2" in
daemon-reload) ;;
enable) [ -e "$units/$4" ] ;;
restart)
    line=$(sed -n 's/^ExecStart=//p' "$units/$3" | sed "s|%h|$HOME|; s|%%|%|g")
    eval "timeout 20 $line" >"$HOME/said" 2>"$HOME/journal" ;;
esac"""


def test_a_service_is_started_and_an_update_that_does_not_start_is_rolled_back(
    made: Program, pi: Machine, tmp_path: Path
) -> None:
    write(tmp_path / "programs" / "systemctl", SYSTEMCTL)
    write(tmp_path / "programs" / "journalctl", 'echo "systemd[1]: Started"; cat "$HOME/journal"')
    write(tmp_path / "programs" / "loginctl", 'echo "$@" >"$HOME/linger"')
    write(tmp_path / "programs" / "arecord", "head -c 400000 /dev/urandom; sleep 0.1; echo gone >&2; exit 1")
    sound = pi.home / "a b%c.wav"
    write_wav(sound, bursts(made))
    first = put(made, f"--source '{sound}' --fast --threshold 0.3")
    assert first["service"] == f"earkit-{MODEL}.service"
    assert '"event": ' in (pi.home / "said").read_text()
    assert (pi.home / "linger").read_text() == "enable-linger\n"
    (pi.home / "said").unlink()
    changed = replace(made, labels=tuple(reversed(made.labels)))
    second = put(changed)  # the service stays, and hears with the new release
    assert '"event": ' in (pi.home / "said").read_text()
    (pi.home / "said").unlink()
    with pytest.raises(UserError, match=r"not start \(microphone default went away \(gone\).* runs again"):
        put(made, "--source mic")
    assert '"event": ' in (pi.home / "said").read_text()  # with its own options
    assert os.readlink(place(pi)) == f"releases/{second['release']}"


@pytest.mark.parametrize(
    ("listening", "line"),
    [
        ("--source", "expected one argument"),
        ("--help", "no options of a listener"),
        ("--source -", "a service has no stdin: name a microphone or a .wav there"),
        ("--threshold nan", "argument --threshold: nan is not between 0 and 1"),
        ("--threads 0", "argument --threads: 0 is not between 1 and"),
        ("--mqtt mqtt://host:99999/x", "is no broker: mqtt://host:1883/topic"),
        ("--websocket 0.0.0.0", "is no address: give a port, or host:port"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
        ("'", "No closing quotation"),
        ("--source mic", "pi has no arecord for its microphone: sudo apt install alsa-utils there"),
    ],
)
def test_services_that_cannot_be(
    made: Program, pi: Machine, tmp_path: Path, listening: str, line: str
) -> None:
    write(tmp_path / "programs" / "systemctl", "exit 9")
    if shutil.which("arecord"):
        pytest.skip("this machine has arecord")
    with pytest.raises(UserError, match=line):
        put(made, listening)
    assert not (pi.home / ".local").exists()


def test_a_machine_without_litert_runs_the_program_alone(
    made: Program, pi: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = "import sys; sys.modules['ai_edge_litert'] = sys.modules['tflite_runtime'] = None"
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(bare)
    write(
        tmp_path / "programs" / "python3",
        f'PYTHONPATH="$PYTHONPATH:{tmp_path}/bare" exec "{sys.executable}" "$@"',
    )
    monkeypatch.setattr(wheels, "resolve", lambda _: Wheels((), litert=False))
    told: list[str] = []
    record = targets.flash(made, "pi", told.append)
    assert [one["engine"] for one in record["bench"]["engines"]] == ["program"]
    assert any("no LiteRT for its Python" in line for line in told)
    assert json.loads((place(pi) / BENCH).read_text())["chosen"]["engine"] == "program"


@pytest.mark.parametrize(
    ("name", "deployed"), [("a b/ü", "a-b--"), ("..x", "x"), ("ü", "model"), ("x" * 99, "x" * 64)]
)
def test_names_of_deployments(made: Program, name: str, deployed: str) -> None:
    assert linux.deployment(replace(made, name=name)) == deployed
