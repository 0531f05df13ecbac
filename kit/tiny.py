"""ONNX through tinygrad: for a GPU that onnxruntime has no provider for, and as CUDA kernels without a GPU.

tinygrad multiplies in float32 what the Q/DQ pairs hold as int8: neither dp4a nor tensor cores come out of it,
so an engine of TensorRT does less work. It is there for machines that have no TensorRT.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError

Floats = npt.NDArray[np.float32]
GPUS = (
    "CUDA",
    "METAL",
)  # devices of tinygrad to look for: those that leave the machine's own driver in place


@dataclass(frozen=True)
class Kernel:
    """A kernel as CUDA C, and compiled for one architecture."""

    source: str
    binary: bytes


def gpu() -> str | None:
    """Return the name of tinygrad's device for this machine's GPU; None without one, or without tinygrad."""
    if importlib.util.find_spec("tinygrad") is None:
        return None
    from tinygrad import Device

    for name in GPUS:
        try:
            Device[name].synchronize()
        except Exception:  # each of its devices has errors of its own when it is not there
            continue
        return name
    return None


def reader(path: Path, device: str) -> Callable[[Floats], Floats]:
    """Return what answers inputs (N, …) of an ONNX with one input and one output, on a device of tinygrad."""
    from tinygrad import Tensor, TinyJit

    with _on(device):
        runner = _runner(path)
        (into,), (out,) = runner.graph_inputs, runner.graph_outputs
    compiled: dict[tuple[int, ...], Any] = {}

    def once(x: Any) -> Any:
        runner.variable_dims.clear()  # it holds a free size to be what it was the first time
        return runner({into: x})[out].realize()

    def answer(x: Floats) -> Floats:
        with _on(device):
            run = compiled.setdefault(x.shape, TinyJit(once))
            said: Floats = run(Tensor(np.ascontiguousarray(x)).realize()).numpy().astype(np.float32)
            return said

    return answer


def kernels(path: Path, shape: tuple[int, ...], architecture: str) -> list[Kernel]:
    """Return the kernels of an ONNX for one input of `shape`, compiled by nvcc for such as sm_87; none runs.

    Raises:
        UserError: nvcc is not there, or does not know the architecture.
    """
    import shutil

    from tinygrad import Device, Tensor

    if shutil.which("nvcc") is None:
        raise UserError("nvcc is not installed: it comes with the CUDA toolkit")
    made: list[Kernel] = []
    with _on(f"NULL:NVCC:{architecture}", CCACHE=0, PARALLEL=0, NULL_ALLOW_COPYOUT=1):
        device = Device["NULL"]
        device.allocator = _memory(device)
        compiler = device.compiler
        compile_one = compiler.compile

        def kept(source: str) -> bytes:
            binary: bytes = compile_one(source)
            made.append(Kernel(source, binary))
            return binary

        compiler.compile = kept
        try:
            runner = _runner(path)
            (into,), (out,) = runner.graph_inputs, runner.graph_outputs
            runner({into: Tensor(np.zeros((1, *shape), np.float32))})[out].realize()
        except RuntimeError as error:  # with what the compiler said
            reason = " ".join(str(error).splitlines()[-1:])
            raise UserError(f"nvcc refuses a kernel for {architecture}: {reason}") from None
        finally:
            compiler.compile = compile_one
    return made


def _memory(device: Any) -> Any:
    """Return an allocator that keeps what is copied in: scales are read back while a graph is built."""
    from tinygrad.runtime.ops_null import NullAllocator

    class Memory(NullAllocator):  # type: ignore[misc]
        """Bytes of the host."""

        def _alloc(self, size: int, options: Any) -> memoryview:
            return memoryview(bytearray(size))

        def _copyin(self, dest: memoryview, src: memoryview) -> None:
            dest[: src.nbytes] = src.cast("B")

        def _copyout(self, dest: memoryview, src: memoryview) -> None:
            dest.cast("B")[:] = src[: dest.nbytes]

        def _offset(self, buf: memoryview, size: int, offset: int) -> memoryview:
            return buf[offset : offset + size]

    return Memory(device)


def _runner(path: Path) -> Any:
    """Return tinygrad's form of an ONNX, which may name no domain of ops but the standard's own."""
    import onnx
    from onnx import numpy_helper
    from tinygrad.nn.onnx import OnnxRunner

    model = onnx.load(path)
    used = {node.domain for node in model.graph.node}
    for entry in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(entry)
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "model.onnx"
        onnx.save(model, bare)
        runner = OnnxRunner(bare)
        for value in runner.graph_values.values():
            if hasattr(value, "realize"):
                value.realize()  # read now: the file goes
    for one in model.graph.initializer:  # sizes and axes, which no device needs to be asked for
        values = numpy_helper.to_array(one)
        if values.dtype == np.int64:
            runner._python_const_cache[one.name] = values.tolist()
    return runner


@contextmanager
def _on(device: str, **settings: int) -> Iterator[None]:
    """Let tinygrad use `device` in this block."""
    from tinygrad.helpers import Context

    with Context(DEV=device, **settings):
        yield
