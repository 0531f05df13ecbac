"""What PETL, the tiny transformer and CoNeTTE save: claims beside ours; writes results/efficiency.md.

`python -m benchmarks.efficiency`: about two minutes of one core. Nets of published sizes are built without
memory. Small ones are compiled with drawn weights and run on the virtual board, which counts instructions:
they do not depend on the weights.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import boards
from benchmarks.captions import words
from firmware.compiler import build
from kit import device, profile
from models import captions, conette, panns, petl_ast, tiny_transformer, train
from models.blocks import cost
from models.blocks.adapters import ADDED, Method
from quantize import export, int8

RESULT = Path(__file__).parent / "results" / "efficiency.md"
BOARD = "virtual-m7"
CALIBRATED, RUNS = 32, 2
OFFICIAL = {  # values that a method adds in the official code, LayerNorms that it leaves out included
    "conformer": 252_288,
    "bottleneck": 230_544,
    "houlsby-conformer": 504_576,
    "houlsby-bottleneck": 239_760,
    "lora": 442_368,
    "shallow-prompts": 230_400,
    "deep-prompts": 230_400,
    "prefix": 221_184,
}
HEADS = {
    "petl": "| method | added | share | added, official | share | trained | share |",
    "tiny": "| net | parameters | fewer than the MFCC-CNN | MMAC | int8 weights, bytes | RAM, bytes | "
    "M instructions |",
}
AST_CLASSES, SOUNDS, TOKENS = 50, 6, 4_585  # ESC-50, the tiny transformer's office sounds, AudioCaps' tokens


@dataclass(frozen=True)
class Share:
    """Values that a method adds to the frozen encoder, and all that it trains but the classifier."""

    added: int
    trained: int
    encoder: int


def sizes(net: Any, *, trained: bool) -> dict[str, int]:
    """Return the values of each weight that is trained, or of each that is not; no statistics."""
    return {
        name: prod(weight.shape)
        for name, weight in cost.weights(net).items()
        if weight.trainable == trained and not name.endswith(("mean", "variance"))
    }


def share(method: Method) -> Share:
    """Return what `method` trains of FULL."""
    config = replace(petl_ast.FULL, method=method)
    net = cost.shape_only(partial(petl_ast.net, config, AST_CLASSES))
    ours = {name: n for name, n in sizes(net, trained=True).items() if not name.startswith("logits")}
    whole = ours | sizes(net, trained=False)
    added = sum(n for name, n in ours.items() if re.fullmatch(ADDED, name))
    encoder = sum(n for name, n in whole.items() if not re.fullmatch(ADDED, name) and "logits" not in name)
    return Share(added, sum(ours.values()), encoder)


def petl() -> list[str]:
    """Return the table of methods on the frozen transformer."""
    rows = []
    for name, method in petl_ast.METHODS.items():
        found = share(method)
        theirs = OFFICIAL.get(name)
        cells = [
            f"`{name}`",
            f"{found.added:,}" if found.added else "–",
            f"{found.added / found.encoder:.2%}" if found.added else "–",
            f"{theirs:,}" if theirs else "–",
            f"{theirs / found.encoder:.2%}" if theirs else "–",
            f"{found.trained:,}",
            f"{found.trained / found.encoder:.2%}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    micro = sizes(petl_ast.net(petl_ast.MICRO, AST_CLASSES), trained=True)
    pack = sum(n for name, n in micro.items() if re.fullmatch(ADDED, name))
    shared = sum(n for name, n in micro.items() if not re.fullmatch(ADDED, name) and "logits" not in name)
    return [
        "## PETL: what a task trains of the spectrogram transformer",
        "",
        HEADS["petl"],
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Claim: 0.29 % (arXiv 2312.03694, `conformer`). Shares are of the frozen encoder, "
        f"{share(petl_ast.FULL.method).encoder:,} values. The official adapters hold LayerNorms that their "
        "forward leaves out (18,432 for `conformer`), ours do not. Trained: all but the classifier. MICRO: "
        f"adapters of {pack:,} values beside {shared:,}, {pack / shared:.1%}.",
        "",
    ]


@dataclass(frozen=True)
class Cost:
    """One inference on the board: MACs and instructions, and bytes of weights and of RAM."""

    macs: int
    instructions: int
    weights: int
    ram: int


def on_board(family: ModuleType) -> Cost:
    """Return what MICRO of `family` costs, with drawn weights."""
    net = train.seeded(lambda: family.net(family.MICRO, SOUNDS), 0)
    rng = np.random.default_rng(0)
    x = rng.normal(-40, 10, (CALIBRATED, *net.input_shape[1:])).astype(np.float32)
    train.adapt(net, x)
    with tempfile.TemporaryDirectory() as folder:
        export.float_tflite(net, Path(folder) / "float.tflite")
        model = int8.quantise((Path(folder) / "float.tflite").read_bytes(), x)
        made = build.compile_model(model, boards.load(BOARD), Path(folder) / "build", name="micro")
        with device.open(made, None) as board:
            trial = profile.feed(made, board, profile.trial_inputs(made.window, RUNS, 0)[:, 0])
            counted = profile.count(board, trial, None)
    if trial.wrong.any():
        raise SystemExit(f"{family.__name__}: board and host differ")
    flash, ram = made.sizes["flash_bytes"], made.sizes["ram_bytes"]
    return Cost(made.sizes["macs"], counted.total, flash["weights"], ram["total"])


def tiny() -> list[str]:
    """Return the table of the tiny transformer and the convolutional nets beside it."""
    nets = {
        "MFCC-CNN, the paper's kind": (tiny_transformer, "baseline"),
        "tiny transformer full": (tiny_transformer, "full"),
        "tiny transformer micro": (tiny_transformer, "micro"),
        "PANNs micro, a separable CNN": (panns, "micro"),
    }
    rows, least = [], None
    for name, (family, size) in nets.items():
        net = cost.shape_only(partial(family.net, family.SIZES[size], SOUNDS))
        count = cost.parameters(net)
        least = least or count
        found = on_board(family) if size == "micro" else None
        cells = [name, f"{count:,}", f"{1 - count / least:.2%}", f"{cost.macs(net) / 1e6:.2f}"]
        cells += (
            [f"{found.weights:,}", f"{found.ram:,}", f"{found.instructions / 1e6:.2f}"]
            if found
            else ["–"] * 3
        )
        rows.append("| " + " | ".join(cells) + " |")
    return [
        "## Tiny transformer: 1 s of sound, 6 classes",
        "",
        HEADS["tiny"],
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Claim: 99.85 % fewer parameters than an MFCC-CNN (arXiv 2103.12157; neither net is published in "
        f"full, the CNN is ours at about 4 M). Instructions: emulated on `{BOARD}`, without the front end.",
        "",
    ]


def telling() -> list[str]:
    """Return the table of CoNeTTE's parts, and of its small sizes."""
    full = {
        "Cnn14 of PANNs, an encoder used before": cost.shape_only(partial(panns.net, panns.FULL, 527)),
        "ConvNeXt encoder with its tagging head": cost.shape_only(partial(conette.net, conette.FULL, 527)),
        "ConvNeXt encoder": cost.shape_only(partial(conette.encoder, conette.FULL)),
        "captioner full": cost.shape_only(partial(conette.captioner, conette.FULL, TOKENS)),
    }
    few = words(tuple(captions.CLAUSES)).size
    small = {
        f"captioner {size}, {few} tokens": cost.shape_only(
            partial(conette.captioner, conette.SIZES[size], few)
        )
        for size in ("lite", "micro")
    }
    whole = cost.parameters(full["captioner full"])
    trained = whole - cost.parameters(full["ConvNeXt encoder"])
    rows = [
        f"| {name} | {cost.parameters(net):,} | {whole / cost.parameters(net):.1f} | "
        f"{cost.macs(net) / 1e6:,.0f} |"
        for name, net in (full | small).items()
    ]
    return [
        "## CoNeTTE: parameters",
        "",
        "| net | parameters | times fewer than the captioner full | MMAC an input |",
        "|---|---|---|---|",
        *rows,
        "",
        "Claim: 12.0 M trained for AudioCaps, and four to forty times fewer than other captioners (arXiv "
        f"2309.00454). Ours with {TOKENS:,} tokens: {trained:,} trained beside the frozen encoder. The other "
        "captioners are not built here, so the second figure is the paper's alone. An input is 10 s (full) "
        "or 1 s; a captioner's MACs are those of all its tokens at once.",
        "",
    ]


def main() -> None:
    """Write the tables."""
    parts = [part for table in (petl, tiny, telling) for part in table()]
    head = ["# Efficiency: claims and ours", "", f"Counted on {date.today():%Y-%m-%d}, all in one run.", ""]
    RESULT.write_text("\n".join([*head, *parts]), encoding="utf-8")


if __name__ == "__main__":
    main()
