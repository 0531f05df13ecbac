"""A client of Edge Impulse's Linux runners for tests, and what the host's int8 definition says."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from programs import Program

from firmware.compiler import interp

PATIENCE = 60.0  # seconds: the machine may be busy
Int16 = npt.NDArray[np.int16]


class Client:
    """A runner on a socket, its answers read up to their NUL."""

    def __init__(self, program: Path, place: Path) -> None:
        self.path = place / "runner.sock"
        self.process = subprocess.Popen(
            [str(program), str(self.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        end = time.monotonic() + PATIENCE
        while not self.path.exists():
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        self.connect()

    def connect(self) -> None:
        """Begin anew; what is seen can be connected to at once."""
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.line.settimeout(PATIENCE)
        self.line.connect(str(self.path))

    def ask(self, request: dict[str, Any] | bytes) -> dict[str, Any]:
        """Return the answer to a request, whatever the line is cut into."""
        self.line.sendall(request if isinstance(request, bytes) else json.dumps(request).encode())
        return self.answer()

    def answer(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\0"):
            part = self.line.recv(4096)
            assert part
            data += part
        assert data.count(b"\0") == 1
        assert data.endswith(b"}\n\0")
        told: dict[str, Any] = json.loads(data[:-1])
        return told

    def silent(self) -> bool:
        """Tell whether nothing more waits."""
        return not select.select([self.line], [], [], 0.2)[0]

    def close(self) -> None:
        self.line.close()
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)


def scores(program: Program, samples: Int16) -> list[float]:
    """Return the host's int8 definition of a window of sound: probabilities, or values of a regression."""
    graph = program.graph
    shape = graph.tensors[graph.inputs[0]].shape
    output = interp.run(graph, [program.features(samples).reshape(shape)])[0].ravel()
    scaling = graph.tensors[graph.outputs[0]].quantisation
    assert scaling is not None
    real = (output.astype(np.float64) - int(scaling.zero_point[0])) * float(scaling.scale[0])
    if graph.nodes[-1].op != "SOFTMAX" and program.bundle.task != "regression":
        real = np.exp(real - real.max())
        real /= real.sum()
    return [float(value) for value in real]
