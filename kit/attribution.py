"""Attribution: whose sounds a model that comes with the kit has learnt from, and on what terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from boards.errors import UserError
from kit.zoo import Source
from models import data as datasets

HEAD = "# {name}\n\nA model of earkit (Apache-2.0), trained on clips that are credited here.\n\n"


def text(source: Source, name: str) -> str:
    """Return the text that must lie beside a model trained on `source`.

    Raises:
        UserError: the terms of that data are not known here, or do not let a model be passed on.
    """
    if source.name not in TERMS:
        known = ", ".join(TERMS)
        raise UserError(f"the licence of {source.name} is not known here; those of {known} are")
    clips = [clip.name for clip in datasets.load(source.path).clips]
    return HEAD.format(name=name) + TERMS[source.name](clips) + "\n"


def _esc10(clips: Sequence[str]) -> str:
    sounds = sorted({PurePosixPath(name).stem.split("-")[1] for name in clips}, key=int)
    return (
        "ESC-10, a part of ESC-50: K. J. Piczak, “ESC: Dataset for Environmental Sound Classification”, ACM "
        "Multimedia 2015, https://github.com/karolpiczak/ESC-50. Each clip is under Creative Commons "
        "Attribution; it was cut from the sound of this number at https://freesound.org, whose page names "
        f"its author:\n\n{', '.join(sounds)}"
    )


def _fsdd(_clips: Sequence[str]) -> str:
    return (
        "Free Spoken Digit Dataset: Zohar Jackson and contributors, "
        "https://github.com/Jakobovski/free-spoken-digit-dataset, Creative Commons "
        "Attribution-ShareAlike 4.0. These weights are passed on under the same licence."
    )


def _synthetic(_clips: Sequence[str]) -> str:
    return "Sounds that the kit makes itself; nobody else's work is in them."


TERMS: Mapping[str, Callable[[Sequence[str]], str]] = {
    "esc10": _esc10,
    "fsdd": _fsdd,
    "synthetic": _synthetic,
    "synthetic-affect": _synthetic,
}
