"""The program as a runner of Edge Impulse: words, shared memory, sockets, its end, hostile clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pytest
from conftest import earkit
from eim_client import PATIENCE, Client, Int16, scores
from programs import Program

from boards.errors import UserError
from kit import eim

pytestmark = programs.HERE_ONLY
CLOSE = 1.1e-5  # five decimals are told; one step of an int8 output is more than 1e-3


@pytest.fixture(scope="module")
def program(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    return programs.here(tiny_bundle, tmp_path_factory.mktemp("program"))


@pytest.fixture
def client(program: Program, tmp_path: Path) -> Iterator[Client]:
    made = Client(program.path, tmp_path)
    yield made
    made.close()


@pytest.fixture
def greeted(client: Client) -> Client:
    assert client.ask({"id": 1, "hello": 1})["success"]
    return client


def noise(count: int, seed: int = 0) -> Int16:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(0, 10 ** rng.uniform(1, 4), count).clip(-32768, 32767), np.int16)


def told(answer: dict[str, Any], program: Program) -> list[float]:
    assert answer["success"], answer
    assert list(answer["result"]["classification"]) == list(program.bundle.labels)
    for name in ("dsp", "classification", "anomaly"):
        assert 0 <= answer["timing"][name] < 1000 * PATIENCE
    return list(answer["result"]["classification"].values())


def shared(hello: dict[str, Any]) -> Path:
    return Path("/dev/shm") / hello["features_shm"]["name"].lstrip("/")


def test_hello_tells_of_the_model(client: Client, program: Program) -> None:
    hello = client.ask({"id": 77, "hello": 1})
    assert (hello["id"], hello["success"]) == (77, True)
    told, front = hello["model_parameters"], program.front
    assert (told["input_features_count"], told["slice_size"]) == (front.samples, front.samples // 4)
    assert (told["sensor"], told["frequency"], told["interval_ms"]) == (1, front.sample_rate, 0.0625)
    assert (told["labels"], told["label_count"]) == (list(program.bundle.labels), len(program.bundle.labels))
    assert hello["features_shm"]["elements"] == front.samples
    assert shared(hello).stat().st_size == hello["features_shm"]["size_bytes"] == 4 * front.samples
    assert stat.S_IMODE(shared(hello).stat().st_mode) == 0o600
    assert client.ask({"id": 78, "hello": 1}) == {
        "id": 78,
        "success": False,
        "error": "is initialized already",
    }


def test_print_info_is_the_hello_for_people(program: Program, greeted: Client) -> None:
    done = subprocess.run([program.path, "--print-info"], capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") > 30
    assert json.loads(done.stdout)["model_parameters"]["labels"] == list(program.bundle.labels)


def test_windows_are_classified_as_the_definition_does(greeted: Client, program: Program) -> None:
    for seed in range(3):
        samples = noise(program.front.samples, seed)
        answer = greeted.ask({"id": seed, "classify": samples.tolist()})
        assert told(answer, program) == pytest.approx(scores(program, samples), abs=CLOSE)
    assert sum(told(answer, program)) == pytest.approx(1, abs=1e-4)


def test_shared_memory_says_the_same_and_floats_are_rounded(client: Client, program: Program) -> None:
    hello = client.ask({"id": 1, "hello": 1})
    samples = noise(program.front.samples, 4)
    floats = samples.astype("<f4") + np.float32(0.25)
    floats[:2] = 1e9, -1e9  # saturate
    samples[:2] = 32767, -32768
    shared(hello).write_bytes(floats.tobytes())
    answer = client.ask({"id": 2, "classify_shm": {"elements": samples.size}, "debug": True})
    assert told(answer, program) == pytest.approx(scores(program, samples), abs=CLOSE)
    listed = client.ask({"id": 3, "classify": [float(x) for x in floats]})
    assert told(listed, program) == told(answer, program)
    floats[-1] = np.nan
    shared(hello).write_bytes(floats.tobytes())
    none = client.ask({"id": 3, "classify_shm": {"elements": samples.size}})
    assert none["error"] == "features are numbers"
    os.truncate(shared(hello), 10)  # which would be fatal to one that maps it
    cut = client.ask({"id": 4, "classify_shm": {"elements": samples.size}})
    assert cut["error"] == "the shared memory cannot be read"


def test_slices_go_on_where_the_last_one_ended(client: Client, program: Program) -> None:
    hello = client.ask({"id": 1, "hello": 1})
    piece, front = hello["model_parameters"]["slice_size"], program.front
    samples = noise(9 * piece, 5)
    for number in range(9):
        part = samples[number * piece : (number + 1) * piece]
        if number % 2:
            shared(hello).write_bytes(part.astype("<f4").tobytes())
            answer = client.ask({"id": number, "classify_continuous_shm": {"elements": piece}})
        else:
            answer = client.ask({"id": number, "classify_continuous": part.tolist()})
        heard = (number + 1) * piece
        end = heard - (heard - front.window) % front.hop
        whole = heard >= front.samples
        wanted = scores(program, samples[end - front.samples : end]) if whole else [0.0] * 13
        assert told(answer, program) == pytest.approx(wanted, abs=CLOSE)
    window = samples[: front.samples]  # which a single window in between begins anew
    alone = client.ask({"id": 20, "classify": window.tolist()})
    assert told(alone, program) == pytest.approx(scores(program, window), abs=CLOSE)
    answer = client.ask({"id": 21, "classify_continuous": part.tolist()})
    assert told(answer, program) == [0.0] * 13


def test_a_threshold_hides_what_is_below(greeted: Client, program: Program) -> None:
    samples = noise(program.front.samples, 6)
    open_scores = told(greeted.ask({"id": 2, "classify": samples.tolist()}), program)
    least = sorted(open_scores)[-3]
    assert greeted.ask({"id": 3, "set_threshold": {"id": 1, "min_score": least + 1e-6}}) == {
        "id": 3,
        "success": True,
    }
    kept = told(greeted.ask({"id": 4, "classify": samples.tolist()}), program)
    assert kept == [value if value > least else 0 for value in open_scores]
    assert "id 1" in greeted.ask({"id": 5, "set_threshold": {"id": 2, "min_score": 0}})["error"]
    assert "min_score" in greeted.ask({"id": 6, "set_threshold": {"id": 1, "max": 0}})["error"]


def test_wrong_requests_are_answered_and_no_harm(client: Client, program: Program) -> None:
    count = program.front.samples
    first = client.ask({"id": 1, "classify": [0] * count})
    assert first == {"id": 1, "success": False, "error": "should initialize first"}
    assert client.ask({"id": 2, "hello": 2})["error"] == "hello is 1, the only version"
    assert client.ask({"id": 3, "hello": 1})["success"]
    for request, error in (
        ({"classify": [1, 2, 3]}, f"this request needs {count} features, got 3"),
        ({"classify": [0] * (count + 1)}, f"this request needs {count} features, got {count + 1}"),
        ({"classify_shm": {"elements": -1}}, f"this request needs {count} features, got 0"),
        ({"classify_shm": {}}, f"this request needs {count} features, got 0"),
        ({"classify_continuous": [0] * count}, f"this request needs {count // 4} features, got {count}"),
        ({"set_parameter": {"x": 1}}, "this model has no parameters"),
        ({"sing": 1}, "unknown request"),
    ):
        assert client.ask({"id": 9, **request}) == {"id": 9, "success": False, "error": error}
        assert client.ask(request) == {"success": False, "error": error}  # no id, no id
    samples = noise(count, 7)
    answer = client.ask({"id": 10, "classify": samples.tolist()})
    assert told(answer, program) == pytest.approx(scores(program, samples), abs=CLOSE)
    assert client.silent()


def test_a_client_that_goes_leaves_the_runner_to_the_next(greeted: Client, program: Program) -> None:
    for spoiled in (b"", b'{"id":1,"classify":[1,2', b"\xff\0{[[", b'{"classify":"' + b"x" * 300_000):
        greeted.line.sendall(spoiled)
        greeted.line.close()
        greeted.connect()
        assert greeted.ask({"id": 5, "classify": []})["error"] == "should initialize first"
        assert greeted.ask({"id": 6, "hello": 1})["success"]
    greeted.line.sendall(b'{"id":8,"nothing":0}' * 10_000)  # and reads none of the answers
    greeted.line.close()
    greeted.connect()
    assert greeted.ask({"id": 6, "hello": 1})["success"]
    assert greeted.process.poll() is None


def test_others_wait_until_the_first_has_gone(greeted: Client, program: Program) -> None:
    waiting = []
    for _ in range(5):
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.setblocking(False)  # as Node connects: there is room for all of them
        line.connect(str(greeted.path))
        line.sendall(b'{"id":1,"hello":1}')
        waiting.append(line)
    samples = noise(program.front.samples, 11)
    answer = greeted.ask({"id": 2, "classify": samples.tolist()})
    assert told(answer, program) == pytest.approx(scores(program, samples), abs=CLOSE)
    greeted.line.close()
    for line in waiting:
        line.settimeout(PATIENCE)
        greeted.line = line
        assert greeted.answer()["success"]
        line.close()


def test_what_never_ends_takes_no_memory(greeted: Client) -> None:
    def most() -> int:
        status = Path(f"/proc/{greeted.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])  # kB

    before = most()
    greeted.line.sendall(b"no line ends here" * 300_000 + b"\n")
    assert greeted.answer()["error"] == "not a JSON object"
    greeted.line.sendall(b'{"id":1,"x":' + b'{"a":[' * 10_000 + b"]}" * 10_000 + b"}")
    assert greeted.answer()["error"] == "nested too deeply"
    greeted.line.sendall(b'{"id":7,"x":"' + b"\\" * (33 << 20))
    assert greeted.answer() == {
        "id": 7,
        "success": False,
        "error": "a message has at most 33554432 bytes",
    }
    assert most() < before + 256


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_nothing_is_left(client: Client, number: signal.Signals) -> None:
    memory = shared(client.ask({"id": 1, "hello": 1}))
    assert memory.exists()
    client.process.send_signal(number)
    assert client.process.wait(PATIENCE) == 128 + number
    assert not memory.exists()
    assert not client.path.exists()


@pytest.mark.parametrize("visited", [True, False])
def test_it_ends_when_the_one_who_started_it_has_gone(
    program: Program, tmp_path: Path, visited: bool
) -> None:
    path = tmp_path / "orphan.sock"
    subprocess.run(["sh", "-c", f"{program.path} {path} & sleep 0.2"], timeout=PATIENCE, check=True)
    end = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    if visited:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line, suppress(FileNotFoundError):
            line.connect(str(path))
    while path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert not path.exists()


def test_stdin_speaks_the_same(program: Program) -> None:
    samples = noise(program.front.samples, 8)
    text = json.dumps({"id": 1, "hello": 1}) + "\n" + json.dumps({"classify": samples.tolist(), "id": 2})
    done = subprocess.run(
        [program.path, "stdin"], input=text.encode(), capture_output=True, timeout=PATIENCE, check=False
    )
    hello, answer = (json.loads(part) for part in done.stdout.split(b"\n\0")[:-1])
    assert told(answer, program) == pytest.approx(scores(program, samples), abs=CLOSE)
    assert done.returncode == 0
    assert not shared(hello).exists()


def test_it_takes_no_place_but_a_sockets(program: Program, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine")
    beside = [tmp_path / "~", tmp_path / "new~"]
    for path in beside:
        path.write_text("mine")
    taken = "something else than a socket is there, or with a ~ behind"
    for place, words in (
        (kept, taken),
        (tmp_path, taken),
        (tmp_path / "new", taken),
        (tmp_path / "no" / "such", "no socket can be made there"),
        (tmp_path / ("x" * 120), "a socket's path has 1 to 106 bytes"),
        ("", "a socket's path has 1 to 106 bytes"),
    ):
        done = subprocess.run(
            [program.path, place],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, f"{place}: {words}\n")
    assert {path.read_text() for path in (kept, *beside)} == {"mine"}
    assert set(tmp_path.iterdir()) == {kept, *beside}


def test_values_are_told_as_they_are(tmp_path: Path) -> None:
    """A regression: neither a softmax nor a threshold, which would hide what is below 0."""
    zoo = programs.ROOT / "models" / "zoo" / "ser_w2v2-micro-synthetic-affect.zip"
    board = {"x86_64": "linux-x86_64", "aarch64": "pi4"}[os.uname().machine]
    eim.export(zoo, tmp_path / "values.eim", board=board)
    program = programs.described(zoo)
    made = Client(tmp_path / "values.eim", tmp_path)
    try:
        assert made.ask({"id": 1, "hello": 1})["model_parameters"]["thresholds"] == []
        seen = []
        for seed in range(4):
            samples = noise(program.front.samples, seed)
            answer = made.ask({"id": 2, "classify": samples.tolist()})
            values = list(answer["result"]["classification"].values())
            assert values == pytest.approx(scores(program, samples), abs=CLOSE)
            seen += values
        assert min(seen) < 0
        refused = made.ask({"id": 3, "set_threshold": {"id": 1, "min_score": 0.5}})
        assert refused == {"id": 3, "success": False, "error": "values have no threshold"}
    finally:
        made.close()


def test_a_streaming_models_window_and_hops_are_the_definitions(tmp_path: Path) -> None:
    zoo = programs.ROOT / "models" / "zoo" / "panns-micro-esc10.zip"
    board = {"x86_64": "linux-x86_64", "aarch64": "pi4"}[os.uname().machine]
    record = eim.export(zoo, tmp_path / "stream.eim", board=board, hop="100ms")
    program = programs.described(zoo)
    made = Client(tmp_path / "stream.eim", tmp_path)
    try:
        hello = made.ask({"id": 1, "hello": 1})["model_parameters"]
        count, piece = hello["input_features_count"], hello["slice_size"]
        assert (count, piece) == (record["window"], record["slice"]) == (program.front.samples, 1600)
        samples = noise(count, 9)
        for _ in range(2):  # the second knows nothing of the first
            answer = made.ask({"id": 2, "classify": samples.tolist()})
            assert told(answer, program) == pytest.approx(scores(program, samples), abs=CLOSE)
        heard = [
            sum(told(made.ask({"id": 3, "classify_continuous": samples[:piece].tolist()}), program))
            for _ in range(12)
        ]
        assert heard == pytest.approx([0.0] * 9 + [1.0] * 3, abs=1e-4)
    finally:
        made.close()


@pytest.mark.parametrize("board", [None, "virtual-m4", "browser", "nothing"])
def test_an_eim_is_for_computers(tiny_bundle: Path, tmp_path: Path, board: str | None) -> None:
    with pytest.raises(UserError, match=r"--as eim is for a computer: --board .*linux-x86_64 or pi"):
        eim.export(tiny_bundle, tmp_path / "x.eim", board=board)
    assert not list(tmp_path.iterdir())


def test_an_eim_is_written_whole_and_may_run(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = {"x86_64": "linux-x86_64", "aarch64": "pi4"}[os.uname().machine]
    out = tmp_path / "new" / "tiny.eim"
    code, text, _ = earkit(
        capsys, "export", tiny_bundle, "--as", "eim", "--board", board, "-o", out, "--json"
    )
    assert code == 0
    record = json.loads(text)
    assert record["bytes"] == out.stat().st_size
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    done = subprocess.run([out, "--print-info"], capture_output=True, timeout=PATIENCE, check=True)
    assert json.loads(done.stdout)["project"]["impulse_name"] == record["build_id"]
