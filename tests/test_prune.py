"""Pruning: useless units go and nothing changes; the result is an ordinary net of the family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boards.errors import UserError
from models import registry, tasks, train
from models.blocks import cost
from models.blocks.groups import Group, Slice
from models.checkpoint import copied
from models.train import Recipe
from quantize import prune
from quantize.prune import with_field

SIZES = [(name, size) for name in registry.names() for size in registry.card(name).sizes]
CLASSES = 3


def thin(family: registry.Family, size: str) -> Any:
    config = family.config(size, seconds=1.0)
    for group in family.groups(config):
        config = with_field(config, group.field, min(16, group.units))
    return config


def clips(net: Any, count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return noise, noise with stripes in time, and noise with stripes in frequency."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % CLASSES
    x = rng.normal(-40, 8, (count, *net.input_shape[1:]))
    x[y == 1, ::2] += 20
    x[y == 2, :, ::2] += 20
    return x.astype(np.float32), y


def build(family: registry.Family, config: Any) -> Any:
    """Return a net whose BatchNorms have statistics, as after training."""
    net = train.seeded(lambda: family.net(config, CLASSES), 1)
    rng = np.random.default_rng(2)
    for name, weight in cost.weights(net).items():
        if name.endswith(("gamma", "moving_variance")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif name.endswith(("beta", "bias", "moving_mean")):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    train.adapt(net, clips(net)[0])
    return net


def silence(net: Any, group: Group, unit: int) -> None:
    """Make a unit give nothing: its scores and all that makes its output are zero."""
    weights = cost.weights(net)
    quiet = {part.weight: part for part in group.slices if part.weight.endswith(("gamma", "beta", "bias"))}
    own = [part for name, part in quiet.items() if "depthwise" not in name]
    for part in (*own, *(group.scores if group.importance == "taylor" else ())):
        value = copied(weights[part.weight])
        places = np.arange(value.shape[part.axis]).reshape(-1, group.units, part.width)[:, unit].ravel()
        value[(slice(None),) * part.axis + (places,)] = 0
        weights[part.weight].assign(value)


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_useless_units_go_and_the_function_stays(name: str, size: str) -> None:
    family = registry.load(name)
    config = thin(family, size)
    net = build(family, config)
    groups = family.groups(config)
    useless = {group.field: range(1, group.units, 2) for group in groups if group.units > 1}
    for group in groups:
        for unit in useless.get(group.field, ()):
            silence(net, group, unit)
    x, y = clips(net)
    wanted = {group.field: max(1, group.units // 2) for group in groups}
    result = prune.cut(family, config, net, x, y, wanted)
    for group in groups:
        assert len(result.kept[group.field]) == max(group.minimum, wanted[group.field])
        if group.importance == "taylor":
            continue  # units that happen to be dead are as useless; the outputs below decide
        assert not set(result.kept[group.field]) & set(useless.get(group.field, ()))
    if not any("depthwise" in part.weight for group in groups for part in group.slices):
        # behind a depthwise convolution a silent channel still has its BatchNorm's shift
        np.testing.assert_allclose(train.predict(result.net, x), train.predict(net, x), atol=2e-4)
    assert result.parameters == (cost.parameters(net), cost.parameters(result.net))
    assert result.macs[1] < result.macs[0]
    again = family.from_dict(registry.to_dict(result.config))
    assert [v.shape for v in family.net(again, CLASSES).variables] == [v.shape for v in result.net.variables]


def test_units_behind_depthwise_convolutions_are_cut_right() -> None:
    family = registry.load("panns")
    config = thin(family, "micro")
    net = build(family, config)
    groups = family.groups(config)
    for group in groups:
        for unit in range(1, group.units, 2):
            silence(net, group, unit)
            for part in group.slices:  # … and nothing comes out of the depthwise convolution either
                if "depthwise_bn/beta" in part.weight or "depthwise_bn/gamma" in part.weight:
                    weight = cost.weights(net)[part.weight]
                    value = copied(weight)
                    value[unit] = 0
                    weight.assign(value)
    x, y = clips(net)
    result = prune.cut(family, config, net, x, y, {group.field: 8 for group in groups})
    np.testing.assert_allclose(train.predict(result.net, x), train.predict(net, x), atol=2e-4)


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
