"""onnxruntime-web in the phone's page: a second engine in the same browser, from npm."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import npm
import numpy as np
import numpy.typing as npt
from chromium import Page

from quantize.bundle import Bundle

NPM = "onnxruntime-web@1.30.0"
PARTS = {  # as the page asks for them
    "ort.js": "ort.wasm.min.mjs",
    "ort-glue.js": "ort-wasm-simd-threaded.mjs",
    "ort.wasm": "ort-wasm-simd-threaded.wasm",
}
CONVERT = """
import sys
from pathlib import Path
from quantize import symmetric
Path(sys.argv[2]).write_bytes(symmetric.imported(Path(sys.argv[1])).SerializeToString())
"""  # in a process of its own: TensorFlow stays out of this one
WARM_UP = 30  # runs before those that are timed, as in worker.js
RUN = """(async () => {
  const ort = await import("/ort.js");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { mjs: "/ort-glue.js", wasm: "/ort.wasm" };
  const session = await ort.InferenceSession.create("/qdq.onnx", { executionProviders: ["wasm"] });
  const bytes = Uint8Array.from(atob("%s"), (one) => one.charCodeAt(0));
  const inputs = new Int8Array(bytes.buffer);
  const shape = %s;
  const size = shape.reduce((a, b) => a * b);
  const [outputs, times] = [[], []];
  for (let i = -%d; i < inputs.length / size; i += 1) {
    const at = Math.max(0, i) * size;
    const x = new ort.Tensor("int8", inputs.slice(at, at + size), shape);
    const begun = performance.now();
    const answer = await session.run({ [session.inputNames[0]]: x });
    if (i < 0) continue;
    times.push(performance.now() - begun);
    outputs.push([...answer[session.outputNames[0]].data]);
  }
  return { outputs, times };
})()"""


def files(bundle: Bundle, folder: Path) -> dict[str, bytes]:
    """Return what the page needs to run a bundle as Q/DQ ONNX, int8 in and out; `folder` is to work in.

    Raises:
        LookupError: onnxruntime-web cannot be had, and why.
    """
    package = npm.modules(NPM) / "onnxruntime-web" / "dist"
    (folder / "model.tflite").write_bytes(bundle.model())
    command = [sys.executable, "-c", CONVERT, str(folder / "model.tflite"), str(folder / "qdq.onnx")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    parts = {name: (package / part).read_bytes() for name, part in PARTS.items()}
    return {**parts, "qdq.onnx": (folder / "qdq.onnx").read_bytes()}


def answers(page: Page, inputs: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int8], list[float]]:
    """Return the int8 outputs (N, classes) of int8 inputs (N, *input), and the milliseconds of each run."""
    coded, shape = base64.b64encode(inputs.tobytes()).decode(), [1, *inputs.shape[1:]]
    told = page.evaluate(RUN % (coded, shape, WARM_UP))
    return np.array(told["outputs"], np.int8), told["times"]
