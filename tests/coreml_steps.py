"""Looks at Core ML packages in a worker: weights by coremltools' own reader, each op beside LiteRT's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from kit.coreml import convert


def constants(package: str) -> list[list[Any]]:
    """Return shape and SHA-256 of every int8 array of the package, from its protobuf and its weight file."""
    convert.alone()
    import coremltools as ct
    from coremltools.libmilstoragepython import _BlobStorageReader

    held = ct.models.MLModel(package, skip_model_load=True)
    weights = Path(held.weights_dir) / "weight.bin"
    reader = _BlobStorageReader(str(weights)) if weights.exists() else None
    found = []
    (block,) = held.get_spec().mlProgram.functions["main"].block_specializations.values()
    for operation in block.operations:
        if operation.type != "constexpr_affine_dequantize":
            continue
        value = operation.attributes["quantized_data"]
        shape = [d.constant.size for d in value.type.tensorType.dimensions]
        if value.HasField("blobFileValue"):
            data = np.asarray(reader.read_int8_data(value.blobFileValue.offset), np.int8)
        else:
            data = np.frombuffer(value.immediateValue.tensor.bytes.values, np.int8)
        found.append([shape, hashlib.sha256(data.tobytes()).hexdigest()])
    return found


def steps(model: str, package: str, inputs: str) -> list[list[float]]:
    """Return for every int8 value the largest difference from LiteRT's kernels, given LiteRT's own inputs."""
    convert.alone()
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from kit.coreml import evaluate

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    host = Interpreter(model, experimental_op_resolver_type=plain, experimental_preserve_all_tensors=True)
    host.allocate_tensors()
    source = host.get_input_details()[0]
    given = np.load(inputs, allow_pickle=False)[0].reshape(source["shape"])
    host.set_tensor(source["index"], given)
    host.invoke()
    scale, zero = source["quantization"]
    function = evaluate.load(Path(package))
    known: dict[str, Any] = {"features": (given.astype(np.float32) - zero) * np.float32(scale)}
    found = []
    for operation in function.operations:
        if operation.op_type == "const":
            continue
        name = operation.outputs[0].name
        made = evaluate.meaning(operation, known)
        if name.startswith("int8_"):
            theirs = host.get_tensor(int(name[5:]))
            theirs = theirs if theirs.shape == made.shape else theirs.transpose(0, 3, 1, 2)
            found.append([int(np.abs(theirs.astype(int) - made).max()), float((theirs != made).mean())])
            made = theirs
        known[name] = made
    return found


def read_back(model: str, package: str) -> Any:
    """Compare a package with the .tflite that it was once made from."""
    convert.alone()
    import tempfile

    from kit.coreml import read_back

    graph = convert.graph_of(Path(model).read_bytes(), "model")
    with tempfile.TemporaryDirectory() as folder:
        net = convert.written(graph, Path(folder) / "again.mlpackage", {"description": "", "licence": ""})
    return read_back.verified(Path(package), net)
