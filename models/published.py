"""A published size of a family with the official weights in it, which a file brings."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boards.errors import UserError
from models import official, registry, weight_files
from models.blocks import cost
from models.fronts import Front
from models.official import State
from models.registry import Family, Size

OUTPUTS = ("embedding", "logits", "frames")  # layers whose outputs tell something, where a net has them
SURE = 0.9  # share of a file's arrays that a layout must know before it is named as the right one


@dataclass(frozen=True)
class Published:
    """A net that answers with a dictionary of OUTPUTS, as far as its weights came from the file."""

    net: Any
    front: Front
    labels: tuple[str, ...]  # of the logits, where the file has them


def load(family: Family, size: str, path: Path, seconds: float | None = None) -> Published:
    """Return `size` with the weights in `path`, with as many classes as they have, for inputs of `seconds`.

    Raises:
        UserError: the file is not of that size; the message says of which size or family it is, if any.
    """
    import keras

    config = family.config(size) if seconds is None else family.config(size, seconds=seconds)
    if family.official is None:
        raise UserError(
            f"{family.card.name} has no official code, so nobody has a checkpoint of it: train it with "
            f"`earkit compress {family.card.name} --size {size}`, or give a .keras, .onnx or .tflite file"
        )
    file = weight_files.read(path)
    layout = family.official(config)
    known = family.card.sizes[size].classes
    told = official.classes(cost.shape_only(lambda: family.net(config, known)), file.arrays, layout)
    net = family.net(config, told or known)
    try:
        official.load(net, file.arrays, layout)
    except UserError as error:
        raise UserError(f"{path}: {error}{_hint(family, size, file.arrays, told)}") from None
    there = [layer.name for layer in net.layers if layer.name in OUTPUTS]
    if told is None:  # the file has no classifier: that of the net is untrained
        there = [name for name in there if name != "logits"]
    if not there:
        raise UserError(f"{path}: has no classifier, and {family.card.name} {size} no other output to store")
    labels = file.labels if len(file.labels) == told else ()
    outputs = {name: net.get_layer(name).output for name in there}
    return Published(keras.Model(net.input, outputs, name=net.name), family.frontend(config), labels)


def _hint(family: Family, size: str, state: State, classes: int | None) -> str:
    """Return the size, or the family, whose checkpoint this seems to be, as the end of a message."""
    if _share(family, state) == 1:  # every name is known: of another depth or width
        held = sum(value.size for value in state.values())
        others = (other for other, known in family.card.sizes.items() if other != size and _like(known, held))
        fitting = next((other for other in others if _fits(family, other, classes, state)), None)
        return "" if fitting is None else f"; it fits --size {fitting}"
    shares = {name: _share(registry.load(name), state) for name in registry.names()}
    best = max(shares, key=lambda name: shares[name])
    return (
        f"; this looks like a checkpoint of {best}"
        if shares[best] > max(SURE, shares[family.card.name])
        else ""
    )


def _like(known: Size, held: int) -> bool:
    """Tell whether a file of `held` values can be of that size, with other heads or statistics."""
    return 0.5 < held / (known.parameters + known.frozen) < 2


def _fits(family: Family, size: str, classes: int | None, state: State) -> bool:
    config = family.config(size)
    count = classes or family.card.sizes[size].classes
    assert family.official is not None
    try:
        official.matched(cost.shape_only(lambda: family.net(config, count)), state, family.official(config))
    except UserError:
        return False
    return True


def _share(family: Family, state: State) -> float:
    """Return how much of `state` the best layout of a family's sizes knows by name."""
    layouts = []
    for config in family.sizes.values():
        with contextlib.suppress(UserError):  # of a size that was not published
            layouts += [family.official(config)] if family.official else []
    return max((official.recognised(state, layout) for layout in layouts), default=0.0)
