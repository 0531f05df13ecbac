"""Registry: a family is a file beside this one that has a CARD; cards are read without importing Keras."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from boards.errors import UserError, hint

if TYPE_CHECKING:
    from models.blocks.groups import Group
    from models.fronts import Front
    from models.official import Layout
    from models.train import Recipe

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Size:
    """One size of a family: its trainable parameters, with the number of classes they were counted for.

    `frozen` parameters are never trained. `ram_bytes` is of the sizes that a microcontroller may hold: arena
    and states of the int8 net on a Cortex-M7.
    """

    parameters: int
    classes: int
    note: str
    frozen: int = 0
    ram_bytes: int | None = None


@dataclass(frozen=True)
class Weights:
    """Official weights, which the kit reads but never ships."""

    where: str
    licence: str
    commercial: bool  # whether the licence lets a product use them

    @property
    def terms(self) -> str:
        """Return the licence, with a warning where it forbids products."""
        return self.licence if self.commercial else f"{self.licence}: not for products"


@dataclass(frozen=True)
class Card:
    """What a family says of itself: literals of its file, read without running it.

    `streaming` is of MICRO. frame: `compile --hop` computes the new frames only; window: each hop runs the
    whole window.
    """

    name: str
    title: str
    task: str
    paper: str
    licence: str
    streaming: Literal["frame", "window"]
    weights: Weights | None  # None: none were published
    sizes: Mapping[str, Size]


@dataclass(frozen=True)
class Family:
    """A loaded family: the values and functions of its file. Loading needs the extra `train`.

    `objective` gives a keras.Model that takes what `net` takes and has the paper's loss inside: it is
    compiled with an optimiser alone and fitted on x, or on x and y of shape (batch, *model.targets) where
    `targets` is not None. None: the objective is the cross-entropy of the labels.
    """

    card: Card
    sizes: Mapping[str, Any]  # size name -> Config
    config_class: type
    frontend: Callable[[Any], Front]  # Config -> front end
    net: Callable[[Any, int], Any]  # Config, classes -> keras.Model (frames, bands) -> logits
    groups: Callable[[Any], tuple[Group, ...]]  # Config -> what structured pruning may remove
    recipes: Mapping[str, Recipe]  # size name -> how it is trained
    official: (
        Callable[[Any], Layout] | None
    )  # Config -> where the official file has each weight; None: no code
    objective: Callable[[Any, int], Any] | None  # Config, classes -> the paper's training, see below

    def config(self, size: str, **changes: Any) -> Any:
        """Return the Config of `size` with `changes` (such as `seconds=5.0`).

        Raises:
            UserError: there is no such size, or no such field.
        """
        config = _choose(self.sizes, size, f"size of {self.card.name}")
        known = [field.name for field in dataclasses.fields(config)]
        for key in changes:
            if key not in known:
                raise UserError(f"no field {key!r} in the config of {self.card.name}; {hint(key, known)}")
        return dataclasses.replace(config, **changes)

    def from_dict(self, values: Mapping[str, Any]) -> Any:
        """Return the Config that `to_dict` wrote, from json types.

        Raises:
            UserError: a key is missing, unknown, or of the wrong type.
        """
        return _build(self.config_class, values, self.card.name)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a Config as json types; `Family.from_dict` reads it back."""
    return dataclasses.asdict(config)


def names() -> list[str]:
    """Return the names of all families, sorted."""
    return sorted(path.stem for path in HERE.glob("*.py") if "\nCARD = {" in path.read_text(encoding="utf-8"))


def card(name: str) -> Card:
    """Return the card of family `name` without importing it.

    Raises:
        UserError: there is no such family; the message says which name is near.
    """
    known = names()
    if name not in known:
        raise UserError(f"no family {name!r}; {hint(name, known)}")
    return _read(HERE / f"{name}.py")


def load(name: str) -> Family:
    """Import family `name`.

    Raises:
        UserError: there is no such family, or Keras is not installed.
    """
    about = card(name)
    try:
        module = importlib.import_module(f"models.{name}")
    except ModuleNotFoundError as error:
        if error.name not in ("keras", "tensorflow"):
            raise
        raise UserError(f"family {name} needs {error.name}: pip install 'earkit[train]'") from None
    return Family(
        about,
        module.SIZES,
        module.Config,
        module.frontend,
        module.net,
        module.groups,
        module.RECIPES,
        getattr(module, "official", None),
        getattr(module, "objective", None),
    )


def _read(path: Path) -> Card:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "CARD"
        ):
            values = ast.literal_eval(node.value)
            sizes = {size: Size(**facts) for size, facts in values.pop("sizes").items()}
            weights = values.pop("weights")
            return Card(
                name=path.stem, sizes=sizes, weights=None if weights is None else Weights(**weights), **values
            )
    raise UserError(f"{path.name}: CARD is not a literal at the top level of the file")


def _choose(table: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in table:
        raise UserError(f"no {what} {name!r}; {hint(name, table)}")
    return table[name]


def _build(kind: Any, value: Any, place: str) -> Any:
    """Return `value` (json types) as `kind`: a dataclass, a union of them, a tuple, or a scalar."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _build(_matching(arguments, value, place), value, place)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, place)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{place}: a list is needed, not {value!r}")
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inner) != len(value):
            raise UserError(f"{place}: {len(inner)} values are needed, not {len(value)}")
        return tuple(_build(k, v, f"{place}[{i}]") for i, (k, v) in enumerate(zip(inner, value, strict=True)))
    if origin is typing.Literal:
        return _choose({choice: choice for choice in arguments}, value, f"value for {place}:")
    wide = (int, float) if kind is float else kind
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, wide):
        raise UserError(f"{place}: {kind.__name__} is needed, not {value!r}")
    return kind(value)


def _build_dataclass(kind: Any, value: Any, place: str) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(value, Mapping) or set(value) != set(hints):
        given = sorted(set(value) ^ set(hints)) if isinstance(value, Mapping) else repr(value)
        raise UserError(f"{place}: does not fit {kind.__name__}: missing or unknown {given}")
    return kind(**{key: _build(hint, value[key], f"{place}.{key}") for key, hint in hints.items()})


def _matching(choices: tuple[Any, ...], value: Any, place: str) -> Any:
    for choice in choices:
        if isinstance(value, Mapping) and set(typing.get_type_hints(choice)) == set(value):
            return choice
    raise UserError(f"{place}: fits none of {', '.join(c.__name__ for c in choices)}")
