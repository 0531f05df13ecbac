"""Rewrites the README's tables (figures, operators, families, boards, tree) from the project itself."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import boards
from boards import computers
from models import registry

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SAID_HERE = {  # files whose first line cannot say what they are
    "LICENSE": "Apache License 2.0",
    "README.md": "this page",
    "requirements.lock": "the versions that every install and CI use",
    ".gitignore": "what git leaves out",
    "pyproject.toml": "the distribution, its extras, and the settings of its tools",
    "tests/golden/*.npz": "outputs of the official codes for drawn weights (tests/official_golden.py)",
    "tests/corpus/*.tflite": "files that once broke the compiler, and the seeds of its fuzzing",
    "benchmarks/results/cortex_m.md": "instructions and memory beside the baseline, as in this page",
    "benchmarks/results/cortex_m_ops.md": "the same, operator by operator and compiler by compiler",
    "benchmarks/results/arm64.md": "a Pi's answers in QEMU beside this machine's, as in this page",
    "benchmarks/results/host.md": "time of a run on a host and in wasm, beside LiteRT's, as in this page",
    "benchmarks/results/lite.md": "LITE bundles in XNNPACK, as C and as streams, as in this page",
    "benchmarks/results/destinations.md": "bundles on every destination, as in this page",
    "benchmarks/results/phone.md": "bundles in headless Chromium, as in this page",
    "benchmarks/results/operators.md": "which op compiles in which type, and whose result ours equals",
    "benchmarks/results/streaming.md": "what streaming saves, as in this page",
    "benchmarks/results/zoo.md": "every micro on real sounds, as in this page",
    "benchmarks/results/zoo.json": "the same figures, fold by fold and seed by seed",
    "benchmarks/results/zoo_fsdd.md": "the same on digits of a speaker left out",
    "benchmarks/results/zoo_fsdd.json": "its figures",
    "benchmarks/results/patchout.md": "what PaSST's patchout saves in training",
    "benchmarks/results/captions.md": "captions of mixed sounds, from float to the board",
    "benchmarks/results/efficiency.md": "parameters and operations that papers save, beside ours",
    "benchmarks/results/scaling.md": "SSAMBA beside SSAST as tokens grow",
    "benchmarks/results/updates.md": "updates with a fault at every point; how long one takes",
    "benchmarks/results/stream_day.md": "a day of sound over a faulty line, as in this page",
    "benchmarks/results/usb_linux.md": "Linux' USB stack in front of the boards' USB, and what it said",
    "benchmarks/results/stream_board.md": "a day of sound through an emulated board, as in this page",
    "models/zoo/*.zip": "trained bundles, small enough to be kept",
    "models/zoo/*.ATTRIBUTION.md": "whose sounds each was trained on",
    "benchmarks/results/real_data.md": "cross-validated accuracy on real sounds, as in this page",
}


def families() -> str:
    """Return a table of families and sizes."""
    rows = ["| family | size | parameters | what |", "|---|---|---|---|"]
    for name in registry.names():
        for size, facts in registry.card(name).sizes.items():
            count = f"{facts.parameters:,} ({facts.classes} classes)"
            rows.append(f"| `{name}` | {size} | {count} | {facts.note} |")
    return "\n".join(rows)


def board_table() -> str:
    """Return a table of boards."""
    rows = [
        "| board | core | MHz | flash | RAM | microphone | plug in | proof |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for board in map(boards.load, boards.names()):
        flash = board.flash_memory.size // 1024
        ram = " + ".join(f"{m.size // 1024:,} KB" for m in (board.ram_memory, *board.more_ram.values()))
        heard = board.microphone.split(":")[0]
        clock = f"{board.clock_hz / 1e6:g}"
        rows.append(
            f"| `{board.name}` | {board.core} | {clock} | {flash:,} KB | {ram} | {heard} "
            f"| {board.plug} | {board.proven} |"
        )
    return "\n".join(rows)


def computer_table() -> str:
    """Return a table of computers."""
    rows = ["| computer | kind | core | cores | MHz | microphone | proof |", "|---|---|---|---|---|---|---|"]
    for one in map(computers.load, computers.names()):
        heard, clock = one.microphone.split(":")[0], f"{one.clock_hz / 1e6:g}" if one.clock_hz else "–"
        core = f"{one.core}, {one.gpu}" if one.gpu else one.core
        cells = (f"`{one.name}`", one.kind, core, str(one.cores or "–"), clock, heard, one.proven)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


PREAMBLES = ("#!", "<!doctype", "<?xml", "// swift-tools-version")


def first_line(name: str) -> str:
    """Return what a file says it is."""
    if name in SAID_HERE:
        return SAID_HERE[name]
    lines = [line.strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()[:4]]
    line = next((line for line in lines if line and not line.startswith(PREAMBLES)), "")
    return re.sub(r'^("""|/\*+|//|#+|<!--)\s*|\s*("""|\*/|-->)$', "", line).rstrip(".")


def tree() -> str:
    """Return every tracked file with what it is, folders behind files; models as one line for all."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {
        re.sub(r"[^/]+\.(tflite|npz|zip|ATTRIBUTION\.md)$", r"*.\1", name)
        for name in tracked.stdout.splitlines()
    }
    lines = ["```"]
    seen: set[tuple[str, ...]] = set()
    for parts in sorted((Path(name).parts for name in names), key=_files_first):
        for depth in range(1, len(parts)):
            if parts[:depth] not in seen:
                seen.add(parts[:depth])
                lines.append("  " * (depth - 1) + parts[depth - 1] + "/")
        lines.append(("  " * (len(parts) - 1) + parts[-1]).ljust(38) + "  " + first_line("/".join(parts)))
    return "\n".join([*lines, "```"])


def _files_first(parts: tuple[str, ...]) -> list[tuple[bool, str]]:
    return [(index < len(parts) - 1, part) for index, part in enumerate(parts)]


def result(name: str) -> Callable[[], str]:
    """Return a reader of a recorded table."""
    return lambda: (RESULTS / f"{name}.md").read_text(encoding="utf-8").strip()


PARTS: dict[str, Callable[[], str]] = {
    "cortex_m": result("cortex_m"),
    "real_data": result("real_data"),
    "zoo": result("zoo"),
    "zoo_fsdd": result("zoo_fsdd"),
    "operators": result("operators"),
    "host": result("host"),
    "lite": result("lite"),
    "destinations": result("destinations"),
    "arm64": result("arm64"),
    "phone": result("phone"),
    "streaming": result("streaming"),
    "scaling": result("scaling"),
    "patchout": result("patchout"),
    "updates": result("updates"),
    "stream_day": result("stream_day"),
    "stream_board": result("stream_board"),
    "families": families,
    "boards": board_table,
    "computers": computer_table,
    "tree": tree,
}


def rewrite(text: str) -> str:
    """Return the README `text` with each part between its two markers made anew; ValueError without them."""
    for name, make in PARTS.items():
        begin, end = f"<!-- begin:{name} -->\n", f"<!-- end:{name} -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


def main() -> None:
    """Rewrite README.md."""
    path = ROOT / "README.md"
    path.write_text(rewrite(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
