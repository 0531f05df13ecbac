"""How fast a net answers on this machine: latency, throughput, memory, and the device's name."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 2  # calls that are not counted: what is compiled is compiled in them
FEWEST, MOST, LONGEST_S = 5, 100, 2.0  # calls that are counted: no more once they took that long


@dataclass(frozen=True)
class Facts:
    """What a net is and runs on; None where it is not known."""

    device: str
    backend: str  # program and version
    dtype: str  # it computes in
    parameters: int | None = None
    model_bytes: int | None = None  # of the weights, or of the file that holds them


def timed(call: Callable[[], object]) -> list[float]:
    """Return the milliseconds of several calls, after some that are not counted."""
    for _ in range(WARM_UP):
        call()
    found: list[float] = []
    while len(found) < FEWEST or (len(found) < MOST and sum(found) < 1000 * LONGEST_S):
        began = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - began))
    return found


def summary(milliseconds: Sequence[float]) -> dict[str, float | int]:
    """Return count, extremes, mean, median and percentiles."""
    ms = np.asarray(milliseconds, np.float64)
    tails = {f"p{p}": float(np.percentile(ms, p)) for p in (90, 95, 99)}
    ends = {"min": float(ms.min()), "max": float(ms.max())}
    middle = {"mean": float(ms.mean()), "median": float(np.median(ms))}
    return {"count": len(ms), **ends, **middle, **tails}


def record(facts: Facts, one: Sequence[float], many: Sequence[float] = (), batch: int = 1) -> dict[str, Any]:
    """Return what is said of a net that was timed here.

    Args:
        facts: what it is.
        one: milliseconds of calls with one input.
        many: milliseconds of calls with `batch` inputs; none: it takes one at a time.
        batch: inputs in those.
    """
    latency = summary(one)
    typical = float(np.median(many)) if len(many) else latency["median"]
    return {
        **asdict(facts),
        "milliseconds": latency["median"],
        "latency": latency,
        "batch": batch,
        "batch_milliseconds": typical,
        "windows_per_second": 1000 * batch / typical,
        "memory": memory(),
        "origin": "measured",
    }


def backend() -> str:
    """Return the program that runs Keras nets here."""
    import keras

    name = keras.backend.backend()
    try:
        return f"keras {keras.__version__}, {name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:  # tensorflow has packages of other names
        return f"keras {keras.__version__}, {name}"


def memory() -> dict[str, int | None]:
    """Return the most bytes so far: of this process on the host, and on the GPU (None: none, or unknown)."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host = most * (1 if sys.platform == "darwin" else 1024)
    counted = (counter(sys.modules[name]) for name, counter in GPU_BYTES.items() if name in sys.modules)
    return {"host_bytes": host, "gpu_bytes": next((size for size in counted if size is not None), None)}


def _tensorflow(tensorflow: Any) -> int | None:
    if not tensorflow.config.list_physical_devices("GPU"):
        return None
    return int(tensorflow.config.experimental.get_memory_info("GPU:0")["peak"])


def _torch(torch: Any) -> int | None:
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None


def _jax(jax: Any) -> int | None:
    about: Mapping[str, Any] = jax.devices()[0].memory_stats() or {}
    return int(about["peak_bytes_in_use"]) if "peak_bytes_in_use" in about else None


GPU_BYTES: dict[str, Callable[[Any], int | None]] = {
    "tensorflow": _tensorflow,
    "torch": _torch,
    "jax": _jax,
}


def keras_device() -> str:
    """Return the name of the device that Keras computes on: a GPU when there is one, else the CPU."""
    import keras

    if keras.backend.backend() == "torch":  # Keras does not list its devices
        import torch

        return gpu() if torch.cuda.is_available() else cpu()
    return gpu() if keras.distribution.list_devices("gpu") else cpu()


def gpu() -> str:
    """Return the name of this machine's first GPU, as its driver says it."""
    driver = Path("/proc/driver/nvidia/gpus")
    for info in sorted(driver.glob("*/information")):
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    tree = Path("/proc/device-tree/model")  # a Jetson's GPU is part of its module
    return f"GPU of {tree.read_text(encoding='utf-8').strip(chr(0))}" if tree.is_file() else "GPU"


def cpu() -> str:
    """Return the name of this machine's processor, and how many there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} ({os.cpu_count()} CPUs)"
