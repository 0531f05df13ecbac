"""Cross-validated accuracy on real sounds, from float to the board; writes results/real_data.md.

`python benchmarks/real_data.py ESC10_DIR FSDD_DIR WORK_DIR`; a second call goes on where the first stopped.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Any

from kit.cross_validate import cross_validate

RESULTS = Path(__file__).parent / "results"
BOARD, SEED = "virtual-m4", 0
NETS = (("tiny_transformer", "micro"), ("tiny_transformer", "baseline"), ("panns", "micro"))
HEAD = (
    "| data | net | parameters | teacher | trained | pruned | int8 host | int8 device | mismatches |",
    "|---|---|---|---|---|---|---|---|---|",
)


def cell(stage: dict[str, Any] | None) -> str:
    """Return mean and deviation over the folds, in percent."""
    return f"{100 * stage['mean']:.1f} ± {100 * stage['deviation']:.1f}" if stage else "–"


def row(data: Path, family: str, size: str, work: Path) -> str:
    """Cross-validate one net on one data set; the baseline is a reference, too large for the board."""
    baseline = size == "baseline"
    choices: dict[str, Any] = {"teacher": "none", "keep": 1.0} if baseline else {}
    summary = cross_validate(
        family,
        size,
        str(data),
        work / f"{data.name}-{family}-{size}",
        board=None if baseline else BOARD,
        seed=SEED,
        **choices,
    )
    stages, device = summary["stages"], summary.get("device")
    trained = stages.get("distilled") or stages.get("scratch")
    small = stages.get("pruned") or trained
    mismatches = f"{device['mismatches']} of {device['samples']}" if device else "–"
    shown = (stages.get("full"), trained, stages.get("pruned"), stages["int8"], device)
    cells = " | ".join(map(cell, shown))
    return f"| {data.name} | {family} {size} | {max(small['parameters']):,} | {cells} | {mismatches} |"


def main() -> None:
    """Write the table."""
    esc, digits, work = map(Path, sys.argv[1:])
    rows = [row(data, *net, work) for data in (esc, digits) for net in NETS]
    note = (
        f"Accuracy in percent, mean ± deviation over folds (speakers), seed {SEED}, {date.today():%Y-%m-%d}. "
        "Trained: distilled where there is a teacher. Host columns measured; "
        f"the device column is heard by {BOARD} from int16 sound, emulated."
    )
    (RESULTS / "real_data.md").write_text("\n".join([*HEAD, *rows, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
