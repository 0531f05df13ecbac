"""Edge Impulse's own clients, unmodified, run our .eim on a real recording as the definition says."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import npm
import numpy as np
import programs
import pytest
import soundfile
from eim_client import PATIENCE, Int16, scores
from programs import Program

from kit import cli

pytestmark = programs.HERE_ONLY
NPM = "edge-impulse-linux@1.25.2"
NEEDS = ("koffi@2.12.1", "tsee@1.3.4")  # all that its runner and its audio classifier import
CLOSE = 1.1e-5  # five decimals are told
RESULTS = 8  # of a stream
ZOO = programs.ROOT / "models" / "zoo" / "panns-micro-esc10.zip"


@pytest.fixture(scope="module")
def program() -> Program:
    return programs.described(ZOO)


@pytest.fixture(scope="module")
def eim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eim") / "panns.eim"
    board = {"x86_64": "linux-x86_64", "aarch64": "pi4"}[os.uname().machine]
    assert cli.main(["export", str(ZOO), "--as", "eim", "--board", board, "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def clip(shared: Path) -> Int16:
    """Give the loudest clip of a rooster, 16 kHz."""
    import soxr

    sounds = [
        soundfile.read(path, dtype="int16") for path in sorted((shared / "data/esc10/audio").rglob("*-1.*"))
    ]
    if not sounds:
        pytest.skip("no recordings of ESC-10")
    samples, rate = max(sounds, key=lambda sound: np.abs(sound[0].astype(float)).mean())
    return np.asarray(soxr.resample(samples, rate, 16_000), np.int16)


def compare(told: dict[str, Any], program: Program, window: Int16) -> None:
    assert list(told["classification"]) == list(program.bundle.labels)
    assert list(told["classification"].values()) == pytest.approx(scores(program, window), abs=CLOSE)


STUBS = {
    "cv2.py": "",
    "pyaudio.py": """
import os, threading, time
import numpy as np
paInt16, paContinue = 8, 0
class Stream:
    def __init__(self, frames, callback):
        self.over = False
        def play():
            sound = np.load(os.environ["CLIP"])
            for at in range(0, len(sound) - frames + 1, frames):
                if not self.over:
                    callback(sound[at : at + frames].tobytes(), frames, None, 0)
                    time.sleep(0.002)
        threading.Thread(target=play, daemon=True).start()
    def stop_stream(self): self.over = True
    def close(self): pass
class PyAudio:
    def is_format_supported(self, rate, input_device, input_channels, input_format):
        return (rate, input_device, input_channels, input_format) == (16000, 0, 1, paInt16)
    def open(self, frames_per_buffer, stream_callback, **_): return Stream(frames_per_buffer, stream_callback)
    def terminate(self): pass
""",
}
PYTHON = """
import json, os, sys
import numpy as np
from edge_impulse_linux.audio import AudioImpulseRunner
from edge_impulse_linux.runner import ImpulseRunner
sound, told = np.load(os.environ["CLIP"]), {}
for shared in (True, False):
    runner = ImpulseRunner(sys.argv[1], allow_shm=shared)
    info = runner.init()
    window = sound[: info["model_parameters"]["input_features_count"]].tolist()
    told[f"shared {shared}"] = runner.classify(window)["result"]
    told["threshold"] = runner.set_threshold({"id": 1, "min_score": 0.5})
    runner.stop()
told["stream"] = []
with AudioImpulseRunner(sys.argv[1]) as audio:
    told["info"] = audio.init()
    for result, _ in audio.classifier(device_id=0):
        told["stream"].append(result["result"])
        if len(told["stream"]) == int(sys.argv[2]): break
    audio.stop()
print(json.dumps(told))
"""


def test_the_python_client_classifies_and_streams(
    eim: Path, program: Program, clip: Int16, tmp_path: Path
) -> None:
    if importlib.util.find_spec("edge_impulse_linux") is None:
        pytest.skip("needs edge-impulse-linux of PyPI")
    for name, text in STUBS.items():
        (tmp_path / name).write_text(text)
    np.save(tmp_path / "clip.npy", clip)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CLIP": str(tmp_path / "clip.npy")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PYTHON, eim, str(RESULTS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    count = told["info"]["model_parameters"]["input_features_count"]
    assert count == program.front.samples
    compare(told["shared True"], program, clip[:count])
    compare(told["shared False"], program, clip[:count])
    assert told["threshold"] == {}
    for number, result in enumerate(told["stream"]):
        start = number * int(count * 0.25)
        compare(result, program, clip[start : start + count])


@pytest.fixture(scope="module")
def modules() -> Path:
    """Give the folder of Edge Impulse's client for Node with what it imports, or skip with the reason."""
    try:
        return npm.modules(NPM, *NEEDS)
    except LookupError as missing:
        pytest.skip(str(missing))


NODE = """
const { LinuxImpulseRunner } = require("edge-impulse-linux/build/library/classifier/linux-impulse-runner");
const { AudioClassifier } = require("edge-impulse-linux/build/library/classifier/audio-classifier");
const { readFileSync, writeFileSync } = require("fs");
const [eim, sound, count] = [process.argv[2], readFileSync(process.argv[3]), Number(process.argv[4])];
const numbers = (bytes) => Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readInt16LE(2 * i));
(async () => {
  const told = { stream: [] };
  for (const shmBehavior of ["always", "never"]) {
    const runner = new LinuxImpulseRunner(eim, { shmBehavior });
    const { modelParameters } = await runner.init();
    const [whole, piece] = [2 * modelParameters.input_features_count, 2 * modelParameters.slice_size];
    told[shmBehavior] = (await runner.classify(numbers(sound.subarray(0, whole)))).result;
    told.slices = [];
    for (let at = 0; at < 6 * piece; at += piece)
      told.slices.push((await runner.classifyContinuous(numbers(sound.subarray(at, at + piece)))).result);
    told.threshold = await runner.setLearnBlockThreshold({ id: 1, min_score: 0.5 });
    told.wrong = await runner.classify([1, 2, 3]).catch((error) => error.message);
    told.info = modelParameters;
    await runner.stop();
  }
  const runner = new LinuxImpulseRunner(eim, { shmBehavior: "never" });
  await runner.init();
  const ear = new AudioClassifier(runner);
  const over = new Promise((resolve) => {
    ear.on("result", (result, _, buffer) => {
      told.stream.push({ result: result.result, window: numbers(buffer) });
      if (told.stream.length == count) resolve();
    });
    ear.on("noAudioError", resolve);
  });
  await ear.start("hw:1,0");
  await over;
  writeFileSync(process.argv[5], JSON.stringify(told));
  process.exit(0); // its timers would keep it for a minute
})();
"""
SOX = """#!{python}
import os, sys, time
assert sys.argv[1:] == "-t alsa hw:1,0 -q -r 16000 -c 1 -e signed-integer -b 16 -t raw -".split(), sys.argv
sound = open(os.environ["SOUND"], "rb").read()
for at in range(0, len(sound), {piece}):
    os.write(1, sound[at : at + {piece}])
    time.sleep(0.1)
time.sleep(60)
"""


def test_the_node_client_classifies_and_streams(
    modules: Path, eim: Path, program: Program, clip: Int16, tmp_path: Path
) -> None:
    piece = program.front.samples // 4
    (tmp_path / "sound.raw").write_bytes(clip.tobytes())
    (tmp_path / "sox").write_text(SOX.format(python=sys.executable, piece=2 * piece))
    (tmp_path / "sox").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "NODE_PATH": str(modules),
        "SOUND": str(tmp_path / "sound.raw"),
    }
    script = tmp_path / "client.cjs"
    script.write_text(NODE)
    done = subprocess.run(
        ["node", script, eim, tmp_path / "sound.raw", str(RESULTS), tmp_path / "told.json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["info"]["sensorType"] == "microphone"
    for behaviour in ("always", "never"):
        compare(told[behaviour], program, clip[: 4 * piece])
    continuous(program, told["slices"], clip[: 6 * piece], piece)
    assert told["threshold"]["success"]
    assert told["wrong"] == f"this request needs {4 * piece} features, got 3"
    assert len(told["stream"]) == RESULTS
    heard = np.concatenate([np.array(one["window"][-piece:], np.int16) for one in told["stream"]])
    continuous(program, [one["result"] for one in told["stream"]], heard, piece)


def continuous(program: Program, results: list[dict[str, Any]], heard: Int16, piece: int) -> None:
    """Compare results with the definition's of the last window of all that was heard before each."""
    front, whole = program.front, 0
    for number, result in enumerate(results, 1):
        end = number * piece - (number * piece - front.window) % front.hop
        if number * piece < front.samples:
            assert set(result["classification"].values()) == {0}
            continue
        compare(result, program, heard[end - front.samples : end])
        whole += 1
    assert whole >= 3
