"""What the apps on phones share: rules and labels, C of sound and events, filling templates."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import firmware
from boards import atomic
from boards.errors import UserError
from kit import ears
from kit.detect import USUAL, Meaning
from kit.listen import HOP_SECONDS

if TYPE_CHECKING:
    from quantize.bundle import Bundle

RECORD = "earkit.json"  # marks a folder as an export, which the next one may replace
LISTENER = ("frontend.c", "frontend.h", "sound.c", "sound.h", "hear.c", "hear.h", "listener.c", "listener.h")
PLACE = re.compile(r"@([A-Z_]+)@")


@dataclass(frozen=True)
class App:
    """A bundle as an app sees it."""

    bundle: Bundle
    name: str  # as a person reads it
    identifier: str  # letters, digits and _
    meant: Meaning

    @property
    def rules(self) -> str:
        """Return ear_rules_t of the kit's usual rules, as a C initialiser."""
        *plain, unit = ears.words(self.meant, USUAL)[:7]
        factors = ", ".join(f"{factor}u" for factor in self.meant.factors)
        return "{" + ", ".join(map(str, plain)) + f", {unit}, {{{factors}}}}}"

    @property
    def strings(self) -> str:
        """Return the labels as string literals of C, Kotlin and Swift, which escape alike."""
        return ", ".join(_literal(label) for label in self.meant.labels)


def app(bundle: Bundle, path: Path, hop_frames: int | None = None) -> App:
    """Return the app of a bundle; UserError where its model makes no events."""
    from firmware.compiler import read_tflite

    if bundle.task == "regression":
        raise UserError(f"{path}: a model of values makes no events to show: export --as c instead")
    name = path.absolute().name.removesuffix(".zip")
    fe, output = bundle.frontend, bundle.outputs[0]
    last = read_tflite.read(bundle.model(), name).nodes[-1].op
    usual = max(1, round(HOP_SECONDS * fe.sample_rate / fe.hop))
    meant = Meaning(
        fe,
        tuple(bundle.labels),
        hop_frames or usual,
        output.scale,
        output.zero_point,
        logits=last != "SOFTMAX",
    )
    identifier = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "model"
    return App(bundle, name, f"m{identifier}" if identifier[0].isdigit() else identifier, meant)


def c_source(name: str) -> str:
    """Return a file of the firmware."""
    return (firmware.ROOT / name).read_text(encoding="ascii")


def filled(template: Path, values: Mapping[str, str]) -> str:
    """Return the text of a template with each @NAME@ replaced; KeyError for one that has no value."""
    return PLACE.sub(lambda found: values[found[1]], template.read_text(encoding="utf-8"))


def check_folder(out: Path) -> None:
    """Raise UserError if `out` holds anything that is not an earlier export."""
    if out.exists() and not (out / RECORD).exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an export: choose another -o")


def write(out: Path, files: Mapping[str, str | bytes], record: Mapping[str, object]) -> None:
    """Write an export with its record to the folder `out`, whole or not at all."""
    text = json.dumps({"schema": 1, **record, "files": sorted(files)}, indent=2) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing_folder(out) as made:
        for path, content in {**files, RECORD: text}.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def _literal(label: str) -> str:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
