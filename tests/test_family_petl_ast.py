"""PETL on AST: every method's official outputs and budget, what is frozen, and what a task owns."""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import official_golden
import pytest

from boards.errors import UserError
from models import official, petl_ast, train
from models.blocks import cost
from models.blocks.adapters import ADDED, Adapter, Lora, Method, Plain, Prefix, Prompts, task_pack
from models.blocks.attention import Encoder, Layer
from models.fronts.kaldi import Kaldi

SMALL = replace(
    petl_ast.FULL,
    front=Kaldi(56, 0.0, 0.5, bands=36),
    seconds=0.56,
    encoder=Encoder(48, 0, (Layer(3, 16, 96),) * 2, activation="gelu", norm="pre", epsilon=1e-12),
    learned=(3, 5),
)
GOLDEN: dict[str, Method] = {
    "conformer": Adapter(reduction=6, taps=7),
    "houlsby-conformer": Adapter("conformer", "both", "sequential", 6, 7, residual=True),
    "bottleneck": Adapter("bottleneck", order="sequential", reduction=6),
    "houlsby-bottleneck": Adapter("bottleneck", "both", reduction=6, residual=True),
    "lora": Lora(6),
    "shallow-prompts": Prompts(6, deep=False),
    "deep-prompts": Prompts(6, deep=True),
    "prefix": Prefix(6),
    "linear": Plain("head"),
}
CONFIGS = {name: replace(SMALL, method=method) for name, method in GOLDEN.items()}
CONFIGS["ast"] = replace(
    petl_ast.AST, **{k: getattr(SMALL, k) for k in ("front", "seconds", "encoder", "learned")}
)

BUDGETS: list[tuple[Method, int]] = [  # the official counts, without head and LayerNorms of the encoder
    *(
        (Adapter("bottleneck", reduction=r), n)
        for r, n in ((32, 451_872), (64, 230_544), (96, 156_768), (128, 119_880))
    ),
    *((Adapter(reduction=r), n) for r, n in ((32, 701_568), (64, 364_608), (96, 252_288), (128, 196_128))),
    *(
        (Adapter("bottleneck", "both", reduction=r), n)
        for r, n in ((32, 903_744), (64, 461_088), (96, 313_536), (128, 239_760))
    ),
    *(
        (Adapter(places="both", reduction=r), n)
        for r, n in ((32, 1_403_136), (64, 729_216), (96, 504_576), (128, 392_256))
    ),
    *((Lora(r), n) for r, n in ((64, 442_368), (128, 221_184), (192, 147_456))),
    (Prompts(300, deep=False), 230_400),
    (Prompts(25, deep=True), 230_400),
    (Prefix(24), 221_184),
    (Plain("head"), 0),
]


def given(net: Any) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(2, *net.input_shape[1:])).astype(np.float32)


def counts(net: Any, trainable: bool) -> dict[str, int]:
    """Return the values of each weight that is trained, or of each that is not."""
    return {
        name: prod(weight.shape)
        for name, weight in cost.weights(net).items()
        if weight.trainable == trainable
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_official_weights_give_the_official_logits(name: str) -> None:
    state, golden = official_golden.read(f"petl_ast-{name}")
    net = petl_ast.net(CONFIGS[name], 5)
    assert official.load(net, state, petl_ast.official(CONFIGS[name])) == ()
    np.testing.assert_allclose(train.predict(net, given(net)), golden["logits"], atol=1e-4)


@pytest.mark.parametrize(("method", "wanted"), BUDGETS, ids=str)
def test_official_budgets(method: Method, wanted: int) -> None:
    net = cost.shape_only(lambda: petl_ast.net(replace(petl_ast.FULL, method=method), 50))
    added = sum(n for name, n in counts(net, True).items() if re.fullmatch(ADDED, name))
    idle = sum(layer.name.endswith("_adapter_conv") for layer in net.layers) * 2 * 768  # official LayerNorms
    assert added + idle == wanted


def test_the_recommended_adapters_are_a_third_of_a_percent() -> None:
    net = cost.shape_only(lambda: petl_ast.net(petl_ast.FULL, 50))
    frozen = sum(n for name, n in counts(net, False).items() if not name.endswith(("mean", "variance")))
    trained = counts(net, True)
    adapters = sum(n for name, n in trained.items() if re.fullmatch(ADDED, name)) + 12 * 2 * 768
    norms = sum(n for name, n in trained.items() if "norm" in name)
    assert norms == 19_968
    assert frozen + norms == 86_187_264
    assert round(100 * adapters / 86_187_264, 2) == 0.29
    houlsby = replace(petl_ast.FULL, method=Adapter(places="both"))
    net = cost.shape_only(lambda: petl_ast.net(houlsby, 50))
    assert sum(n for name, n in counts(net, True).items() if "norm" in name) == 38_400


def test_ast_has_its_own_count() -> None:
    assert cost.parameters(cost.shape_only(lambda: petl_ast.net(petl_ast.AST, 527))) == 86_594_063


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "ast"])
def test_only_what_the_method_trains_changes(name: str) -> None:
    net = train.seeded(lambda: petl_ast.net(CONFIGS[name], 2), 0)
    before = {key: np.array(weight) for key, weight in cost.weights(net).items()}
    x = np.random.default_rng(0).normal(size=(16, *net.input_shape[1:])).astype(np.float32)
    x[::2, :, :9] += 3
    net.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    net.fit(x, np.arange(16) % 2, epochs=2, batch_size=8, verbose=0)
    after = {key: np.array(weight) for key, weight in cost.weights(net).items()}
    moved = {key for key in before if not np.array_equal(before[key], after[key])}
    statistics = {key for key in before if key.endswith(("moving_mean", "moving_variance"))}
    trained = {f"{layer.name}/{weight.name}" for layer in net.layers for weight in layer.trainable_weights}
    assert moved - statistics <= trained
    assert {key for key in trained if not key.endswith(("kernel", "bias"))} <= moved
    assert {"logits/kernel", "norm/gamma"} <= moved


def test_biases_alone_are_trained() -> None:
    net = petl_ast.net(replace(SMALL, method=Plain("biases")), 5)
    names = {name for name, weight in cost.weights(net).items() if weight.trainable}
    assert "layer1_query/bias" in names
    assert "layer2_norm1/beta" in names
    assert "layer1_query/kernel" not in names
    assert "patch/bias" not in names


@pytest.mark.parametrize("method", [Adapter("bottleneck", reduction=6), Lora(6)], ids=["adapter", "lora"])
def test_additions_begin_at_nothing(method: Method) -> None:
    state, golden = official_golden.read("petl_ast-linear")
    net = petl_ast.net(replace(SMALL, method=method), 5)
    lacking = official.load(net, state, petl_ast.official(replace(SMALL, method=method)))
    assert lacking
    assert all(re.fullmatch(ADDED, name) for name in lacking)
    np.testing.assert_allclose(train.predict(net, given(net)), golden["logits"], atol=1e-4)


def test_low_rank_additions_fold_into_the_weights() -> None:
    state, golden = official_golden.read("petl_ast-lora")
    config = CONFIGS["lora"]
    net = petl_ast.net(config, 5)
    official.load(net, state, petl_ast.official(config))
    plain_config, plain = petl_ast.folded(config, net)
    assert plain_config.method == Plain("head")
    assert not any("lora" in name for name in cost.weights(plain))
    np.testing.assert_allclose(train.predict(plain, given(net)), golden["logits"], atol=1e-4)


def test_a_micro_task_is_a_small_pack() -> None:
    net = petl_ast.net(petl_ast.MICRO, 10)
    adapters = {name: prod(weight.shape) for name, weight in cost.weights(net).items() if "_adapter_" in name}
    folded = sum(n for name, n in adapters.items() if "_bn/" not in name)  # BatchNorm goes into the taps
    assert 6_500 <= folded <= sum(adapters.values()) <= 7_552
    pack = task_pack(net, petl_ast.MICRO.method)
    assert set(adapters) <= set(pack)
    assert not [name for name in pack if name.startswith(("patch", "position")) or "_query" in name]
    assert sum(prod(weight.shape) for weight in pack.values()) < 9_000


def test_a_further_task_trains_its_pack_only() -> None:
    config = replace(petl_ast.MICRO, trained="method")
    net = petl_ast.net(config, 10)
    pack = task_pack(net, config.method)
    trained = {name for name, weight in cost.weights(net).items() if weight.trainable}
    assert trained <= set(pack)
    assert all(name.endswith(("moving_mean", "moving_variance")) for name in set(pack) - trained)


def test_the_encoder_may_be_there_twice_or_under_its_class() -> None:
    state, golden = official_golden.read("petl_ast-conformer")
    twice = {**state, **{f"model.{k}": v for k, v in state.items() if "classification_head" not in k}}
    net = petl_ast.net(CONFIGS["conformer"], 5)
    assert official.load(net, twice, petl_ast.official(CONFIGS["conformer"])) == ()
    np.testing.assert_allclose(train.predict(net, given(net)), golden["logits"], atol=1e-4)
    ast, _ = official_golden.read("petl_ast-ast")
    assert any(key.startswith("audio_spectrogram_transformer.") for key in ast)
    lacking = official.load(net, ast, petl_ast.official(CONFIGS["conformer"]))
    assert {"logits/kernel", "logits/bias", "layer2_ffn_adapter_conv/kernel"} <= set(lacking)


def test_an_odd_prefix_is_refused() -> None:
    with pytest.raises(UserError, match="a prefix of 5 tokens"):
        petl_ast.net(replace(SMALL, method=Prefix(5)), 3)


def test_a_checkpoint_of_something_else_is_refused() -> None:
    state, _ = official_golden.read("petl_ast-linear")
    net = petl_ast.net(CONFIGS["linear"], 5)
    renamed = {key.replace("layernorm_before", "norm_before"): value for key, value in state.items()}
    with pytest.raises(UserError, match=r"no encoder\.layer\.0\.layernorm_before\.weight .*nearest: encoder"):
        official.load(net, renamed, petl_ast.official(CONFIGS["linear"]))
    ssast, _ = official_golden.read("ssast")
    with pytest.raises(UserError, match="PETL_AST"):
        official.load(net, ssast, petl_ast.official(CONFIGS["linear"]))
