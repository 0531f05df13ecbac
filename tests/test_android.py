"""A phone through the real adb server: flashed, timed on each kind of core, and each way to fail in a line.

The phone is a stand-in that runs the program on this machine: its times are this machine's, and no phone's.
"""

from __future__ import annotations

import gc
import os
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adbd_stand_in import Phone, Stream

from boards import computers
from boards.errors import UserError
from firmware.compiler.program import Program
from kit import device, pipeline, profile, targets
from kit.link import LinkError
from kit.targets import adb, android, benchmark_model

adbutils = pytest.importorskip("adbutils")
pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64",
        reason="adbutils brings adb for Linux x86_64",
    ),
    # adbutils leaves the sockets open of connections that are refused
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
BOARD = "android-arm64"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Let what adbutils has left open be found while it is looked away from."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def made(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Give the tiny bundle for a phone whose processor is this machine's."""
    here = computers.load(BOARD).model_copy(update={"machine": "x86_64", "cpu": "x86_64_v3"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(computers, "load", lambda _: here)
        compiled = pipeline.compile(tiny_bundle, BOARD, tmp_path_factory.mktemp("phone") / "tiny")
        assert isinstance(compiled, Program)
        yield compiled


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give a client of an adb server of our own, with its keys in a folder of the test."""
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("ADB_MDNS", "0")
        patch.delenv("ANDROID_SERIAL", raising=False)
        client = adbutils.AdbClient()
        yield client
        client.server_kill()


@pytest.fixture
def phone(server: Any, tmp_path: Path) -> Iterator[Phone]:
    with Phone(tmp_path / "phone") as one:
        assert "connected" in server.connect(one.serial, timeout=10)
        yield one
        server.disconnect(one.serial)


def test_a_phone_is_flashed_and_answers(made: Program, phone: Phone) -> None:
    told: list[str] = []
    record = targets.flash(made, None, told.append)
    assert record["build_id"] == made.build_id
    assert (record["method"], record["port"], record["fallback"]) == ("adb", phone.serial, False)
    assert record["machine"]["model"] == "Stand-in"
    assert (phone.folder / "data/earkit/tiny/program").read_bytes() == made.program.read_bytes()
    assert not (phone.folder / "data/earkit/tiny/next").exists()
    assert targets.flash(made, phone.serial)["fallback"] is True
    x = profile.trial_inputs(made.window, 3, 0)
    with device.open(made, None) as board:
        assert np.array_equal([board.infer(one) for one in x], profile.on_host(made.graph, x))
    assert phone.masks() == ["30"]  # the big ones that are on
    with pytest.raises(UserError, match=r"runs build .*, not 0000: run `earkit flash` first"):
        device.open(replace(made, build_id="0000"), None)
    with pytest.raises(UserError, match="a phone has no services"):
        targets.flash(made, None, service="--source mic")


def test_a_profile_times_each_kind_of_core(made: Program, phone: Phone) -> None:
    with pytest.raises(UserError, match="has no tiny: `earkit flash` puts it there"):
        device.open(made, None)
    targets.flash(made, None)
    (phone.folder / "data/benchmark_model").write_text(f"#!/bin/sh\necho \"$@\" > args\ncat <<'E'\n{LOG}E\n")
    (phone.folder / "data/benchmark_model").chmod(0o755)
    run = pipeline.profile(made.path, data="synthetic", samples=4)
    record = run.profile
    assert record is not None
    assert (record["board"], record["unit"], record["mismatches"]) == (BOARD, "nanoseconds", 0)
    assert [one["cores"] for one in record["phone"]["clusters"]] == [(4, 5), (0, 1, 2, 3)]
    assert [one["equal"] for one in record["phone"]["clusters"]] == [True, True]
    assert all(0 < one["min_us"] <= one["median_us"] for one in record["phone"]["clusters"])
    assert phone.masks() == ["30", "30", "f", "30"]
    assert record["phone"]["litert"]["mean"] == 43.2
    assert "--graph=" in (phone.folder / "args").read_text()
    assert any(note.startswith("one run on cores 4,5 at most 2,800 MHz: ") for note in record["notes"])
    assert any("LiteRT with XNNPACK, 1 thread" in note for note in record["notes"])


def test_a_phone_that_is_unplugged_in_mid_run(made: Program, phone: Phone) -> None:
    targets.flash(made, None)
    x = profile.trial_inputs(made.window, 1, 0)[0]
    with device.open(made, None) as board:
        board.infer(x)
        threading.Timer(0.2, phone.vanish).start()
        with pytest.raises(LinkError, match=f"{phone.serial} has gone: is it still plugged in"):
            list(iter(lambda: board.infer(x).size, 0))


def test_no_space_leaves_the_old_program(made: Program, phone: Phone) -> None:
    targets.flash(made, None)
    phone.full = True
    with pytest.raises(UserError, match=r"no space: 1,024 bytes are free in .*, [\d,]+ are needed"):
        targets.flash(made, None)
    phone.full = False
    with device.open(made, None) as board:
        assert board.info().build_id == made.build_id
    assert [path.name for path in (phone.folder / "data/earkit/tiny").iterdir()] == ["program"]


def test_another_processor_is_refused(made: Program, phone: Phone) -> None:
    other = replace(made, board=made.board.model_copy(update={"machine": "armv7"}))
    with pytest.raises(UserError, match="runs x86_64,arm64-v8a, android-arm64 is armeabi-v7a"):
        targets.flash(other, None)


def test_a_program_that_does_not_start(made: Program, phone: Phone, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    (spoilt / "program").write_text("#!/bin/sh\necho >&2 cannot execute; exit 126\n")
    with pytest.raises(UserError, match=r"the program ended with exit code 126: cannot execute"):
        targets.flash(replace(made, path=spoilt), None)
    assert not (phone.folder / "data/earkit/tiny/program").exists()


def test_several_phones_are_told_apart(made: Program, phone: Phone, server: Any, tmp_path: Path) -> None:
    with Phone(tmp_path / "other") as other:
        server.connect(other.serial, timeout=10)
        with pytest.raises(UserError, match=r"several phones \(.*\): choose one with --port SERIAL"):
            targets.flash(made, None)
        assert targets.flash(made, other.serial)["port"] == other.serial
        assert not (phone.folder / "data/earkit").exists()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ANDROID_SERIAL", phone.serial)
            assert targets.flash(made, None)["port"] == phone.serial
        with pytest.raises(UserError, match="no phone 123, adb knows 127"):
            targets.flash(made, "123")
        server.disconnect(other.serial)


def test_files_come_back(phone: Phone) -> None:
    data = os.urandom(200_000)
    here = adb.find()
    here.push(data, "/data/local/tmp/x/file")
    assert adbutils.AdbClient().device(phone.serial).sync.read_bytes("/data/local/tmp/x/file") == data
    assert here.run("cat /data/local/tmp/x/file; echo no >&2; exit 3") == adb.Done(3, data, b"no\n")
    with pytest.raises(UserError, match="did not end within 1 s"):
        here.run("sleep 20", 1)


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ("", "no phone: plug it in, allow USB debugging"),
        ("A1\tunauthorized\n", "A1 is unauthorized: unlock it and allow USB debugging"),
        ("A1\toffline\n", "A1 is offline: unplug it and plug it in again"),
        ("A1\trecovery\n", "A1 is recovery: restart it into Android"),
        ("A1\thost\n", "A1 is host: start Android on it"),
    ],
)
def test_states_have_their_cures(listed: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            asked = connection.recv(int(connection.recv(4), 16))
            assert asked == b"host:devices"
            connection.sendall(b"OKAY" + f"{len(listed):04x}{listed}".encode())

    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(listening.getsockname()[1]))
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        with pytest.raises(UserError, match=words):
            adb.find()


def test_without_an_adb_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no = tmp_path / "adb"
    no.write_text("#!/bin/sh\nexit 1\n")
    no.chmod(0o755)
    monkeypatch.setenv("ADBUTILS_ADB_PATH", str(no))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "9")
    with pytest.raises(UserError, match=r"no adb server at 127.0.0.1:9, .*: install Android's"):
        adb.find()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("adb")))
    with pytest.raises(UserError, match="no adb server"):
        adb.find()


def test_an_adb_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    monkeypatch.setattr(adb, "SILENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # takes what comes, and never answers
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(listening.getsockname()[1]))
        with pytest.raises(
            UserError, match=r"the adb server at .* has said nothing for 1 s: `adb kill-server`"
        ):
            adb.find()


@pytest.mark.parametrize("dies", [True, False])
def test_a_phone_that_dies_or_sleeps_in_mid_push(
    made: Program, phone: Phone, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    targets.flash(made, None)
    monkeypatch.setattr(adb, "SILENCE", 2)
    (phone.folder / "bin" / "df").write_text("#!/bin/sh\necho /dev/x 9 9 99999999 9% /data\n")

    def stuck(stream: Stream, _name: str) -> None:
        if dies:
            phone.vanish()
        else:
            threading.Event().wait(6)
        stream.come, stream.ended = b"", True

    monkeypatch.setattr(phone, "_receive", stuck)
    line = "has gone|adb says" if dies else "has said nothing for 2 s: is it asleep"
    with pytest.raises(UserError, match=f"{phone.serial} ({line})"):
        targets.flash(replace(made, build_id="new"), None)
    assert (phone.folder / "data/earkit/tiny/program").read_bytes() == made.program.read_bytes()


def test_kinds_of_cores() -> None:
    said = (
        "cpu0 1800000 0 1 a\ncpu1 1800000 0 1 a\ncpu10 2000000 0 1 b\ncpufreq\ncpu2 3000000 0 0 c\nnonsense"
    )
    found = android.clusters(said)
    assert [(one.mask, one.cores, one.mhz) for one in found] == [
        ("400", (10,), 2000.0),
        ("3", (0, 1), 1800.0),
    ]
    assert found[0].title == "core 10 at most 2,000 MHz"
    long = "9" * 5000
    for text in ("", f"cpu{long} 1 1 1 a", f"cpu0 {long} 1 1 a", f"cpu0 1 1 1 {long}", "cpu-1 1 1 1 a"):
        assert android.clusters(text) == ()


TABLE = (
    ("node type", "first", "avg ms", "%", "cdf%", "mem KB", "times called", "Name"),
    ("FULLY_CONNECTED", "0.020", "0.018", "45.000%", "45.000%", "0.000", "1", "[dense/MatMul]:0"),
    ("SOFTMAX", "0.024", "0.022", "55.000%", "100.000%", "0.000", "1", "[out]:1"),
)
HEAD, *ROWS = ("".join(f"\t{f'[{cell}]' if row is TABLE[0] else cell:>16}" for cell in row) for row in TABLE)
LOG = f"""INFO: STARTING!
INFO: Loaded model /data/local/tmp/earkit/tiny/model.tflite
INFO: count=5 first=61 curr=44 min=43 max=61 avg=47.4 std=6 p5=43 median=44 p95=61

INFO: Running benchmark for at least 50 iterations and at least 1 seconds
INFO: count=50 first=44 curr=43 min=42 max=58 avg=43.2 std=2 p5=42 median=43 p95=47

INFO: Inference timings in us: Init: 1204, First inference: 61, Warmup (avg): 47.4, Inference (avg): 43.2
INFO: Overall peak memory footprint (MB) via periodic monitoring: 5.75
============================== Run Order ==============================
{HEAD}
{ROWS[0]}
{ROWS[1]}

============================== Top by Computation Time ==============================
{HEAD}
{ROWS[1]}

Number of nodes executed: 2
============================== Summary by node type ==============================
"""


def test_what_benchmark_model_prints() -> None:
    found = benchmark_model.parse(LOG)
    assert (found["init"], found["first"], found["warm_up"], found["mean"]) == (1204.0, 61.0, 47.4, 43.2)
    assert (found["count"], found["min"], found["max"], found["std"], found["peak_mb"]) == (
        50,
        42,
        58,
        2,
        5.75,
    )
    assert [(row["op"], row["milliseconds"], row["name"]) for row in found["ops"]] == [
        ("FULLY_CONNECTED", 0.018, "[dense/MatMul]:0"),
        ("SOFTMAX", 0.022, "[out]:1"),
    ]
    old = "Average inference timings in us: Warmup: 3000.5, Init: 99, Inference: 2875.25\n"
    found = benchmark_model.parse(old)
    assert (found["init"], found["warm_up"], found["mean"], found["ops"]) == (99, 3000.5, 2875.25, [])
    refused = [("", "nothing"), ("ERROR: Failed to load model\nbye", "Failed to load model")]
    odd = (LOG.replace("43.2", "4.3.2"), LOG.replace("0.018", "x"), LOG.replace("[avg ms]", "[mean]"))
    refused += [(text, "report is not understood") for text in odd]
    for text, said in refused:
        with pytest.raises(UserError, match=said):
            benchmark_model.parse(text)


def test_how_benchmark_model_is_asked() -> None:
    asked = benchmark_model.command("/data/local/tmp/benchmark_model", "/data/x y.tflite", 2, "f0").split()
    assert asked[:3] == ["taskset", "f0", "/data/local/tmp/benchmark_model"]
    assert "'--graph=/data/x" in asked
    assert {"--num_threads=2", "--use_xnnpack=true", "--enable_op_profiling=true"} <= set(asked)
