"""The tiny bundle as a program for this machine's Linux, and what it should say."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from firmware.compiler import linux
from firmware.compiler.compiled import lower
from firmware.compiler.graph import Graph
from firmware.compiler.plan import plan
from models import frontend
from models.frontend import FrontEnd
from quantize import bundle as bundles

ROOT = Path(__file__).parent.parent
HERE = {"x86_64": "x86_64_v3", "aarch64": "generic"}  # machine → the least processor of CI
HERE_ONLY = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() not in HERE,
    reason=f"programs run on Linux, not on {sys.platform} {platform.machine()}",
)
ID = "0123456789abcdef"


@dataclass(frozen=True)
class Program:
    """A program, its graph and its front end."""

    path: Path
    graph: Graph
    front: FrontEnd
    bundle: bundles.Bundle

    def features(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
        """Return what the front end's definition makes of samples."""
        into = self.graph.tensors[self.graph.inputs[0]].quantisation
        assert into is not None
        exact = frontend.features(samples, self.front)
        return frontend.quantise(exact, float(into.scale[0]), int(into.zero_point[0]))


def compiled(source: Path, machine: str, cpu: str, folder: Path) -> Program:
    """Compile a bundle for a machine."""
    made = described(source)
    tables, planned = frontend.tables(made.front), plan(made.graph)
    told: dict[str, Any] = {"build_id": ID, "bundle": made.bundle.model_dump(mode="json")}
    path = linux.compile_program(made.graph, planned, machine, cpu, folder, tables, **told)
    return replace(made, path=path)


def described(source: Path) -> Program:
    """Return what a program of a bundle should say, without one."""
    bundle = bundles.load(source)
    _, graph, _ = lower(bundle.model(), source.stem, linux.UNIT)
    return Program(source, graph, bundle.frontend, bundle)


def here(source: Path, folder: Path) -> Program:
    """Compile a bundle for this machine."""
    machine = platform.machine()
    return compiled(source, machine, HERE[machine], folder)
