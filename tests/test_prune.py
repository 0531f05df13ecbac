"""Pruning: useless units go and nothing changes; the result is an ordinary net of the family."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from boards.errors import UserError
from models import petl_ast, registry, tasks, train
from models.blocks import attention, cost, ssm
from models.blocks.groups import Group, Slice
from models.blocks.normalise import LayerNorm
from models.checkpoint import copied
from models.train import Recipe
from quantize import prune
from quantize.prune import with_field

CLASSES = 3
WIDEST = 96  # of the encoders: one unit in each adapter, six in each group of a convolution


def thin(family: registry.Family, size: str) -> Any:
    """Return the config of `size` with two of each row of equal layers and at most 16 units in a group."""
    config = shallow(family.config(size, seconds=1.0))
    for group in family.groups(config):
        config = with_field(config, group.field, min(16, group.units))
    return config


def shallow(value: Any) -> Any:
    """Return a part of a config with two of each row of equal values, and encoders and heads narrow."""
    if isinstance(value, tuple):
        rows = [list(row) for _, row in groupby(value)]
        return tuple(shallow(one) for row in rows for one in row[:2])
    if not is_dataclass(value):
        return value
    value = replace(value, **{field.name: shallow(getattr(value, field.name)) for field in fields(value)})
    match value:
        case attention.Encoder() | ssm.Encoder():
            return replace(value, width=min(WIDEST, value.width))
        case attention.Layer():
            return replace(value, head_width=min(8, value.head_width))
    return value


def distinct() -> list[tuple[str, str]]:
    """Return all families and sizes but those whose thin config an earlier size has too."""
    found: dict[str, tuple[str, str]] = {}
    for name in registry.names():
        family = registry.load(name)
        for size in family.card.sizes:
            found.setdefault(f"{name} {thin(family, size)}", (name, size))
    return list(found.values())


def clips(net: Any, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return noise, noise with stripes in time, and noise with stripes in frequency."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % CLASSES
    x = rng.normal(-40, 8, (count, *net.input_shape[1:]))
    x[y == 1, ::2] += 20
    x[y == 2, :, ::2] += 20
    return x.astype(np.float32), y


def build(family: registry.Family, config: Any) -> Any:
    """Return a net whose BatchNorms have the statistics of `clips`, as after training."""
    net = train.seeded(lambda: family.net(config, CLASSES), 1)
    rng = np.random.default_rng(2)
    for name, weight in cost.weights(net).items():
        if name.endswith("gamma"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif name.endswith(("beta", "bias")):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    norms = [layer for layer in net.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    net(clips(net)[0], training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return net


def normalised(net: Any, group: Group) -> bool:
    """Return whether a LayerNorm runs over the units: a silent one counts in its mean and variance."""
    return any(isinstance(net.get_layer(part.weight.split("/")[0]), LayerNorm) for part in group.slices)


def reads(net: Any, part: Slice) -> bool:
    """Return whether a slice is what a kernel takes in from the units."""
    layer, variable = part.weight.split("/")
    kernel = cost.weights(net)[part.weight]
    across = isinstance(net.get_layer(layer), (layers.DepthwiseConv1D, layers.DepthwiseConv2D))
    return variable == "kernel" and part.axis == len(kernel.shape) - 2 and not across


def of_unit(net: Any, group: Group, part: Slice, unit: int) -> tuple[Any, ...]:
    length = cost.weights(net)[part.weight].shape[part.axis]
    places = np.arange(length).reshape(-1, group.units, part.width)[:, unit].ravel()
    return (*(slice(None),) * part.axis, places)


def silence(net: Any, group: Group, unit: int) -> None:
    """Make a unit give nothing that is read: its scores, its shifts and scales, and its readers are zero."""
    for part in group.slices:
        scored = group.importance == "taylor" and part in group.scores
        if scored or part.weight.endswith(("gamma", "beta", "bias")) or reads(net, part):
            assign(net, group, part, unit, 0)


def double(net: Any, group: Group, unit: int) -> None:
    """Make a unit the twin of the one before it, which nothing reads.

    A LayerNorm over pairs of twins has the mean and variance of one of each.
    """
    for part in group.slices:
        before = copied(cost.weights(net)[part.weight])[of_unit(net, group, part, unit - 1)]
        assign(net, group, part, unit, 0 if reads(net, part) else before)


def assign(net: Any, group: Group, part: Slice, unit: int, values: Any) -> None:
    value = copied(cost.weights(net)[part.weight])
    value[of_unit(net, group, part, unit)] = values
    cost.weights(net)[part.weight].assign(value)


def odd(group: Group) -> range:
    return range(1, group.units, 2)


def same(found: Any, net: Any, x: np.ndarray) -> None:
    """Check that `found` computes what `net` does, which tells the clips apart."""
    wanted = train.predict(net, x)
    spread = float(np.ptp(wanted, axis=0).max())
    assert spread > 1e-4 * np.abs(wanted).max()
    np.testing.assert_allclose(train.predict(found, x), wanted, rtol=0, atol=0.02 * spread)


@pytest.mark.parametrize(("name", "size"), distinct())
def test_useless_units_go_and_the_function_stays(name: str, size: str) -> None:
    family = registry.load(name)
    check_useless_units(family, thin(family, size))


@pytest.mark.parametrize("method", ["bitfit", "deep-prompts", "houlsby-bottleneck", "lora", "prefix"])
def test_what_a_method_adds_is_pruned_too(method: str) -> None:
    family = registry.load("petl_ast")
    config = replace(thin(family, "full"), method=petl_ast.METHODS[method])
    check_useless_units(family, config)


def check_useless_units(family: registry.Family, config: Any) -> None:
    net = build(family, config)
    groups = family.groups(config)
    mixed = {group.field for group in groups if normalised(net, group)}
    for group in groups:
        for unit in odd(group):
            (double if group.field in mixed else silence)(net, group, unit)
    x, y = clips(net)
    flags = [v.trainable for v in net.variables]
    result = prune.cut(family, config, net, x, y, {g.field: g.units - len(odd(g)) for g in groups})
    assert [v.trainable for v in net.variables] == flags
    for group in groups:
        left = result.kept[group.field]
        assert len(left) == max(group.minimum, group.units - len(odd(group)))
        # twins are not silent, and a Taylor score of 0 may also be that of a unit which happens to be dead
        if group.importance == "scale" and group.field not in mixed:
            assert not set(left) & set(odd(group))
    assert result.parameters == (cost.parameters(net), cost.parameters(result.net))
    assert result.macs[1] < result.macs[0]
    assert family.from_dict(registry.to_dict(result.config)) == result.config
    if mixed:  # twins matter to the LayerNorm, so importance may choose either
        chosen = {g.field: range(0, g.units, 2) if g.field in mixed else result.kept[g.field] for g in groups}
        result = prune.keep_units(family, config, net, {f: np.array(units) for f, units in chosen.items()})
    same(result.net, net, x)


@pytest.mark.parametrize(("name", "size"), [("panns", "micro"), ("tiny_transformer", "micro")])
def test_keeping_everything_changes_nothing(name: str, size: str) -> None:
    family = registry.load(name)
    config = family.config(size)
    net = build(family, config)
    x, y = clips(net)
    everything = {group.field: group.units for group in family.groups(config)}
    result = prune.cut(family, config, net, x, y, everything)
    assert result.config == config
    np.testing.assert_array_equal(train.predict(result.net, x), train.predict(net, x))


def test_prunes_in_rounds_and_recovers() -> None:
    family = registry.load("panns")
    config = thin(family, "micro")
    net = train.seeded(lambda: family.net(config, CLASSES), 1)
    x, y = clips(net, 96)
    recipe = Recipe(epochs=8, batch=16, learning_rate=2e-2, label_smoothing=0.0)
    train.fit_on_arrays(net, x, y, recipe=recipe, seed=0)
    before = [copied(v) for v in net.variables]
    options: dict[str, Any] = {"keep": 0.5, "rounds": 2, "recipe": replace(recipe, epochs=3), "seed": 0}
    result = prune.prune(family, config, net, x, y, (x, y), **options)
    assert all(np.array_equal(a, copied(b)) for a, b in zip(before, net.variables, strict=True))
    assert tasks.accuracy(train.predict(result.net, x), y) > 0.8
    assert result.parameters[1] < 0.6 * result.parameters[0] == 0.6 * cost.parameters(net)
    assert all(len(units) == 8 for units in result.kept.values())
    assert all(set(units) <= set(range(16)) for units in result.kept.values())


@pytest.mark.parametrize(("keep", "rounds"), [(0.0, 1), (1.1, 1), (float("nan"), 1), (0.5, 0)])
def test_impossible_shares_are_refused(keep: float, rounds: int) -> None:
    family, x, y = registry.load("panns"), np.zeros(0, np.float32), np.zeros(0, np.int64)
    with pytest.raises(UserError, match=r"keep must be in \(0, 1\], rounds 1 or more"):
        prune.prune(family, None, None, x, y, keep=keep, rounds=rounds, recipe=Recipe(), seed=0)


def test_a_net_of_another_config_is_refused() -> None:
    family = registry.load("panns")
    config = thin(family, "micro")
    net = family.net(config, CLASSES)
    other = with_field(config, "blocks.1.widths.0", 24)
    x, y = clips(net)
    with pytest.raises(UserError, match=r"16 values for 24 units of blocks.1.widths.0"):
        prune.cut(family, other, net, x, y, {"blocks.1.widths.0": 8})


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.integers(0, 1))
def test_units_own_their_places(repeats: int, count: int, width: int, axis: int) -> None:
    group = Group("x", count, (), (), "taylor")
    values = np.arange(repeats * count * width * 2.0).reshape(repeats * count * width, 2)
    values = values if axis == 0 else values.T
    found = prune.units(group, Slice("w", axis, width), values)
    moved = values if axis == 0 else values.T
    for unit in range(count):
        rows = [r * count * width + unit * width + w for r in range(repeats) for w in range(width)]
        assert sorted(found[unit]) == sorted(moved[rows].ravel())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_never_below_the_minimum(count: int, wanted: int, minimum: int, multiple: int, seed: int) -> None:
    group = Group("x", count, (), (), "scale", min(minimum, count), multiple)
    scores = np.random.default_rng(seed).uniform(size=count)
    kept = prune.most_important(group, scores, wanted)
    assert min(minimum, count) <= len(kept) <= count
    assert len(kept) >= min(wanted, count)
    assert list(kept) == sorted(set(kept))
    left = np.setdiff1d(np.arange(count), kept)
    assert not len(left) or scores[left].max() <= scores[kept].min()
