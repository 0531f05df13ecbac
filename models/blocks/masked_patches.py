"""Masked patches: an encoder learns to tell hidden patches of a spectrogram apart, and to draw them.

Gong et al. 2021, SSAST, arXiv 2110.09784 (code: BSD-3-Clause); also the objective of SSAMBA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from boards.errors import UserError
from models.blocks.patches import Grid, Patches, pieces, resampled, tokens
from models.fronts.kaldi import Kaldi
from models.official import Layout, Rule, dense, norm

AUDIO_AND_SPEECH = Kaldi(1024, mean=-4.2677393, std=4.5689974)  # AudioSet and LibriSpeech


@dataclass(frozen=True)
class MaskedPatches:
    """The joint objective: which patches are hidden, and what drawing them counts.

    Args:
        hidden: patches that are hidden in each clip.
        clusters: sides of the squares in which they are hidden, one drawn for each clip; (1,): one by one,
            as is better for patches that are whole frames.
        drawing: weight of the mean squared error beside the cross-entropy of telling apart.
    """

    hidden: int = 400
    clusters: tuple[int, ...] = (3, 4, 5)
    drawing: float = 10.0


def masked_patches(
    features: Any,
    x: Any,
    patches: Patches,
    width: int,
    trunk: Callable[[Any], Any],
    goal: MaskedPatches,
    name: str,
) -> keras.Model:
    """Return the model `features` to (batch,), the share of hidden patches that are told apart.

    Its loss is inside. `x` (batch, frames, bands) are the features as the patches take them (normalised).
    `trunk` takes the tokens (batch, n, width) of `patches.tokens`, some of them hidden, and returns as many,
    (batch, n, width): positions and special tokens are its own affair. One set of hidden patches serves
    both losses, as in the paper (the code draws two sets and goes through twice).
    """
    grid = patches.grid(*x.shape[1:])
    shown = tokens(x, patches, width)
    where = Hidden(goal.hidden, goal.clusters, grid, name="hidden")(shown)
    seen = trunk(MaskToken(name="mask")(shown, where))
    raw = ops.stop_gradient(pieces(x, patches))
    found, wanted = (ops.take_along_axis(all_of, where[..., None], axis=1) for all_of in (seen, raw))
    told, drawn = (_head(found, raw.shape[-1], part) for part in ("tell", "draw"))
    right = MaskedPatchLoss(goal.drawing, name="loss")(told, drawn, wanted)
    model = keras.Model(features, right, name=f"{name}_masked_patches")
    model.targets = None
    return model


def _head(x: Any, values: int, name: str) -> Any:
    x = layers.Dense(x.shape[-1], activation="relu", name=f"{name}1")(x)
    return layers.Dense(values, name=f"{name}2")(x)


class Hidden(layers.Layer):
    """Draws which of the tokens (batch, n, width) are hidden: (batch, count), int32, without repetition.

    Squares are put on the grid at random places until `count` patches are covered; of the last square
    only as many are taken as are wanted. Squares end at the border (the code lets them run on in the next
    row, and drops the highest of the surplus).
    """

    def __init__(self, count: int, clusters: tuple[int, ...], grid: Grid, **kwargs: Any):
        super().__init__(**kwargs)
        self.count, self.clusters, self.grid = count, tuple(clusters), tuple(grid)
        if not 0 < count < grid[0] * grid[1]:
            raise UserError(f"{count} hidden patches of {grid[0]}·{grid[1]}: at least one must stay")
        self.seeds = keras.random.SeedGenerator()

    def call(self, x: Any) -> Any:
        """Return the hidden places of each clip."""
        batch, (rows, columns) = ops.shape(x)[0], self.grid
        draw = keras.random.uniform((batch, rows * columns), seed=self.seeds)
        turn = ops.cast(ops.argsort(ops.argsort(draw, axis=-1), axis=-1), "float32")
        image = ops.reshape(-turn, (batch, rows, columns, 1))  # the square around each place has its turn
        covered = [ops.max_pool(image, (side, side), strides=1, padding="same") for side in self.clusters]
        kind = keras.random.randint((batch,), 0, len(self.clusters), seed=self.seeds)
        chosen = ops.one_hot(kind, len(self.clusters))[:, None, None]
        first = ops.sum(ops.concatenate(covered, axis=-1) * chosen, axis=-1)
        first = ops.reshape(first, (batch, rows * columns))
        ties = keras.random.uniform((batch, rows * columns), seed=self.seeds)
        return ops.top_k(first + ties, self.count)[1]

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return (batch, count)."""
        return (shape[0], self.count)

    def compute_output_spec(self, x: Any) -> Any:
        """Return the symbolic result."""
        return keras.KerasTensor((x.shape[0], self.count), dtype="int32")

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "count": self.count, "clusters": self.clusters, "grid": self.grid}


class MaskToken(layers.Layer):
    """Puts a learned token in the hidden places: (batch, n, width), (batch, count) to (batch, n, width)."""

    def build(self, shape: tuple[Any, ...], *others: Any) -> None:
        """Create the token."""
        self.token = self.add_weight(shape=(shape[-1],), initializer=_normal(), name="token")

    def call(self, x: Any, where: Any) -> Any:
        """Return `x` with the hidden tokens replaced."""
        hidden = ops.sum(ops.one_hot(where, x.shape[1], dtype=x.dtype), axis=1)[..., None]
        return x * (1 - hidden) + self.token * hidden


def _normal() -> Any:
    return keras.initializers.RandomNormal(stddev=0.02)


class MaskedPatchLoss(layers.Layer):
    """InfoNCE among the hidden patches of a clip, plus `drawing` times the error of the drawn ones.

    van den Oord et al. 2018, arXiv 1807.03748. All three inputs are (batch, hidden, values).
    """

    def __init__(self, drawing: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.drawing = drawing

    def call(self, told: Any, drawn: Any, wanted: Any) -> Any:
        """Add the loss, and return the share of guesses that are likeliest for their own patch, (batch,)."""
        likeness = ops.log_softmax(ops.matmul(wanted, ops.transpose(told, (0, 2, 1))), axis=-1)
        own = ops.eye(likeness.shape[-1], dtype=likeness.dtype)  # (batch, patch, guess)
        contrast = -ops.mean(ops.sum(likeness * own, axis=-1))
        self.add_loss(contrast + self.drawing * ops.mean(ops.square(drawn - wanted)))
        right = ops.argmax(likeness, axis=1) == ops.arange(likeness.shape[-1])
        return ops.mean(ops.cast(right, "float32"), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "drawing": self.drawing}


def layout(
    repository: str, special: Rule, inner: Sequence[Rule], count: int, learned: Grid, grid: Grid
) -> Layout:
    """Return where an official file, pretrained or fine-tuned, has the weights of net and objective.

    SSAMBA's code grew from SSAST's: around the encoder their keys are the same.

    Args:
        repository: of the official code.
        special: rule of the special tokens.
        inner: rules of the encoder.
        count: of special tokens.
        learned: patches that the official table of positions has.
        grid: patches of the net.
    """

    def positions(table: NDArray[Any]) -> NDArray[Any]:
        return resampled(table[0], count, learned, grid)

    def patch(kernel: NDArray[Any]) -> NDArray[Any]:
        return np.transpose(kernel, (3, 2, 1, 0))  # the official image is (bands, frames)

    return Layout(
        repository,
        (
            Rule("patch/kernel", "v.patch_embed.proj.weight", patch),
            Rule("patch/bias", "v.patch_embed.proj.bias"),
            special,
            Rule("position/position", "v.pos_embed", positions),
            *inner,
            *norm("head_norm", "mlp_head.0"),
            *dense("logits", "mlp_head.1"),
            Rule("mask/token", "mask_embed", lambda token: token[0, 0]),
            *dense("tell1", "cpredlayer.0"),
            *dense("tell2", "cpredlayer.2"),
            *dense("draw1", "gpredlayer.0"),
            *dense("draw2", "gpredlayer.2"),
        ),
        prefixes=("module.",),
        ignored=(
            r"v\.head(_dist)?\..*",  # heads of timm and Vim, which nothing uses
            r"p_input_[ft]dim",  # bands and frames of the pretraining
            r"mask_embed|[cg]predlayer\..*",  # the pretraining's own: only `objective` has them
            r"mlp_head\..*",  # the fine-tuning's own: only `net` has them
        ),
        optional=(r"(head_norm|logits)/.*",),
        own=(r"bn0/.*", r".*seed.*"),
    )
