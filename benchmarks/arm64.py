"""A Raspberry Pi's answers without one: LiteRT for arm64 and our own program in QEMU, beside this machine's.

`python -m benchmarks.arm64 ROOT WHEELS models/zoo/*-esc10.zip` writes results/arm64.md. ROOT is a folder into
which the arm64 packages libc6, libgcc-s1, libstdc++6, zlib1g, libexpat1, libffi8, libpython3.11-minimal,
libpython3.11-stdlib and python3.11-minimal were unpacked (`apt-get download`, `dpkg-deb -x`); WHEELS holds
ai-edge-litert and numpy for them (`pip install --target WHEELS --platform manylinux_2_31_aarch64 …`). It
needs qemu-aarch64-static. What takes how long there is not told: an emulator's time is no figure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards import computers
from firmware.compiler import interp, linux
from firmware.compiler.compiled import lower
from firmware.compiler.plan import plan
from kit.device import Device
from kit.pipe_wire import PipeWire
from models import frontend
from quantize import bundle as bundles

RESULTS = Path(__file__).parent / "results"
BOARD = "pi4"
INPUTS = 50
QEMU = ("qemu-aarch64-static", "-cpu", "cortex-a72")
HEAD = (
    "| bundle | inputs | LiteRT: arm64 ≠ this machine's | our program ≠ its definition | "
    "LiteRT from the definition, largest |",
    "|---|---|---|---|---|",
)
RUN = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path=sys.argv[1], num_threads=1)
model.allocate_tensors()
into, out = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]
found = []
for x in np.load(sys.argv[2]):
    model.set_tensor(into, x)
    model.invoke()
    found.append(model.get_tensor(out).reshape(-1).copy())
np.save(sys.argv[3], np.stack(found))
"""
CPUINFO = """\
processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
CORES = 4


def like_a_pi(root: Path) -> None:
    """Put there what LiteRT asks of the processor: QEMU would show it this machine's."""
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text("".join(CPUINFO.format(number=number) for number in range(CORES)))
    system = root / "sys/devices/system/cpu"
    for number in range(CORES):
        core = system / f"cpu{number}"
        (core / "topology").mkdir(parents=True, exist_ok=True)
        (core / "cpufreq").mkdir(exist_ok=True)
        facts = {"core_id": number, "physical_package_id": 0, "core_siblings_list": f"0-{CORES - 1}"}
        for name, value in {**facts, "thread_siblings_list": number}.items():
            (core / "topology" / name).write_text(f"{value}\n")
        for name in ("cpuinfo_max_freq", "scaling_cur_freq"):
            (core / "cpufreq" / name).write_text("1500000\n")
    for name in ("possible", "present", "online"):
        (system / name).write_text(f"0-{CORES - 1}\n")


def run(command: list[str], folder: Path, name: str, environment: dict[str, str]) -> npt.NDArray[np.int8]:
    """Return what LiteRT says in the Python of a command."""
    out = folder / f"{name}.npy"
    words = [*command, "-c", RUN, str(folder / "model.tflite"), str(folder / "inputs.npy"), str(out)]
    subprocess.run(words, env=environment, check=True)
    found: npt.NDArray[np.int8] = np.load(out)
    return found


def row(path: Path, root: Path, wheels: Path, folder: Path) -> str:
    """Compare one bundle."""
    bundle, board = bundles.load(path), computers.load(BOARD)
    _, graph, _ = lower(bundle.model(), path.stem, linux.UNIT)
    shape = graph.tensors[graph.inputs[0]].shape
    x = np.random.default_rng(0).integers(-128, 128, (INPUTS, *shape), np.int8)
    (folder / "model.tflite").write_bytes(bundle.model())
    np.save(folder / "inputs.npy", x)
    here = run([sys.executable], folder, "here", {"TF_CPP_MIN_LOG_LEVEL": "3"})
    python = [*QEMU, "-L", str(root), str(root / "usr/bin/python3.11")]
    there = run(python, folder, "there", {"PYTHONPATH": str(wheels), "TF_CPP_MIN_LOG_LEVEL": "3"})
    tables: Any = frontend.tables(bundle.frontend)
    program = linux.compile_program(graph, plan(graph), board.machine, board.cpu, folder, tables)
    with Device(PipeWire([*QEMU, str(program)]), "emulated") as device:
        ours = np.stack([device.infer(one) for one in x])
    wanted = interp.run_batch(graph, x).reshape(INPUTS, -1)
    figures = (
        path.stem,
        INPUTS,
        f"{(here != there).any(1).sum()}, at most {np.abs(here.astype(int) - there).max()} LSB",
        int((ours != wanted).any(1).sum()),
        f"{np.abs(here.astype(int) - wanted).max()} LSB",
    )
    return f"| {' | '.join(map(str, figures))} |"


def main() -> None:
    """Write the table for the bundles named on the command line."""
    root, wheels = (Path(argument).resolve() for argument in sys.argv[1:3])
    like_a_pi(root)
    rows = list(HEAD)
    for bundle in map(Path, sys.argv[3:]):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(bundle, root, wheels, Path(folder)))
    note = (
        f"Emulated (QEMU's cortex-a72), {date.today():%Y-%m-%d}, random inputs; inputs whose outputs differ. "
        "Where LiteRT differs between\nthe machines, its int8 softmax is the first operation that does."
    )
    (RESULTS / "arm64.md").write_text("\n".join([*rows, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
