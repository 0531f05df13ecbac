"""A stand-in for TensorRT's trtexec: checks arguments and files, answers with onnxruntime, knows no times.

Run as `python trtexec_stand_in.py VERSION …`; VERSION as in its banner, v100300. An engine is a folder's
worth of JSON with the model in it; another version refuses it, as TensorRT does.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

KNOWN = {
    *(
        "--onnx",
        "--saveEngine",
        "--loadEngine",
        "--loadInputs",
        "--exportOutput",
        "--exportProfile",
        "--shapes",
    ),
    *("--iterations", "--warmUp", "--duration", "--avgRuns"),
}
OLD = {"--int8", "--fp16", "--useSpinWait", "--useCudaGraph", "--separateProfileRun"}
BEFORE_86, SINCE_86, NEW = {"--buildOnly"}, {"--skipInference"}, {"--stronglyTyped", "--includeDataTransfers"}


class RefusedError(Exception):
    """What it says as an error."""


def known(version: str) -> set[str]:
    """Return the options of a version."""
    if version >= "v11" and len(version) == 7:
        return KNOWN | SINCE_86 | NEW
    return KNOWN | OLD | (BEFORE_86 if version < "v8600" and len(version) == 5 else SINCE_86)


def main(version: str, arguments: list[str]) -> int:
    """Do what trtexec does."""
    banner = f"TensorRT.trtexec [TensorRT {version}] # stand-in for trtexec {' '.join(arguments)}"
    print(f"&&&& RUNNING {banner}")
    options = dict(argument.partition("=")[::2] for argument in arguments)
    if options.keys() & {"--help"}:
        return 0
    try:
        if strange := options.keys() - known(version):
            raise RefusedError(f"Unknown option: {sorted(strange)[0]}")
        work(version, options)
    except RefusedError as error:
        print(f"[11/23/2026-20:00:00] [E] {error}\n&&&& FAILED {banner}")
        return 1
    print(f"&&&& PASSED {banner}")
    return 0


def work(version: str, options: dict[str, str]) -> None:
    """Build an engine, or load one and answer."""
    import onnxruntime

    if "--onnx" in options:
        model = there(options["--onnx"]).read_bytes()
        try:
            session = onnxruntime.InferenceSession(model)
        except Exception as error:
            raise RefusedError(
                f"ModelImporter.cpp: Failed to parse onnx file: {type(error).__name__}"
            ) from None
        still = all(isinstance(size, int) for size in session.get_inputs()[0].shape)
        if still and "--shapes" in options:
            raise RefusedError("Static model does not take explicit shapes")
        if version < "v11" and not options.keys() & {"--int8"} and b"QuantizeLinear" in model:
            raise RefusedError("Int8 precision has been set for a layer without the flag")
        kept = {"version": version, "model": base64.b64encode(model).decode()}
        Path(options["--saveEngine"]).write_text(json.dumps(kept), encoding="utf-8")
        return
    engine = json.loads(there(options["--loadEngine"]).read_text(encoding="utf-8"))
    if engine["version"] != version:
        raise RefusedError(
            "Error Code 1: Serialization (magicTag assertion failed. An incompatible version.)"
        )
    session = onnxruntime.InferenceSession(base64.b64decode(engine["model"]))
    if "--loadInputs" in options:
        answer(session, options)
    if "--exportProfile" in options:
        Path(options["--exportProfile"]).write_text('[\n  { "count" : 0 }\n]\n', encoding="utf-8")


def answer(session: object, options: dict[str, str]) -> None:
    """Write what the model says of the input file."""
    import numpy as np

    name, _, path = options["--loadInputs"].partition(":")
    (into,) = session.get_inputs()  # type: ignore[attr-defined]
    values = np.frombuffer(there(path).read_bytes(), np.float32)
    sizes = [size if isinstance(size, int) else None for size in into.shape]
    if None in sizes:
        sizes = [int(size) for size in options["--shapes"].rpartition(":")[2].split("x")]
    if name != into.name or values.size != np.prod(sizes):
        raise RefusedError(f"{name}: input of {values.size} values, {into.name} takes {sizes}")
    (said,) = session.run(None, {name: values.reshape(sizes)})  # type: ignore[attr-defined]
    numbers = ", ".join(f"{value:.6g}" for value in said.ravel())
    shape = "x".join(map(str, said.shape))
    text = f'[\n  {{ "name" : "logits"\n  , "dimensions" : "{shape}"\n  , "values" : [ {numbers} ]\n  }}\n]\n'
    Path(options["--exportOutput"]).write_text(text, encoding="utf-8")


def there(path: str) -> Path:
    """Return a file that is there."""
    if not Path(path).is_file():
        raise RefusedError(f"Input file cannot be found, or is not a regular file: {path}")
    return Path(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
