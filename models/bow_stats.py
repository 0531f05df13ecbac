"""Bag of codes with statistics: audio without convolutions over context, attention or recurrence.

Verma 2021, "Attention is all you need? Good embeddings with statistics are enough", arXiv 2110.03183; no code
was published. Feed-forward autoencoders squeeze several views of a spectrogram through bottlenecks: single
frames and short slices of it, patches (micro level), and the mean spectrum of a second (macro level). Each
bottleneck vector is coded by its centroid; the embedding of a clip is the histogram of the codes of each view
with the first two moments of the bottlenecks, and a feed-forward head classifies it.

The paper's sizes are not public: FULL is our rebuild. Input: log-mel features in dB, float32 (batch, frames,
bands). Output: logits (batch, classes). Parameters are those of encoders, centroids and head; the decoders
belong to the objective.

The paper codes by k-means after training the autoencoders. Here `objective` trains the autoencoders and,
with them, the centroids by stochastic k-means; for the head a code is a softmax of −distance²/√width, so that
everything is fine-tuned with the labels. One call of the kit trains all of it with the labels from the start.

MICRO streams: pieces lie side by side, so that a hop of 100 ms brings whole ones, which are encoded and coded
once. What the stream remembers is a window of bottlenecks and codes; their means are taken anew at each hop,
and the head runs, so that it equals the window model for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from boards.errors import UserError
from models.blocks import normalise
from models.blocks.codebook import nearest
from models.blocks.codes import Centroids
from models.blocks.front import covering
from models.blocks.groups import Group, Slice
from models.colour import Colour
from models.frontend import FrontEnd
from models.train import Recipe

CARD = {
    "title": "Bag of codes with statistics: autoencoders of frames, slices and patches, centroids, a head",
    "task": "classification",
    "paper": "https://arxiv.org/abs/2110.03183",
    "licence": "no official code; Apache-2.0 (this code)",
    "streaming": "frame",
    "weights": None,
    "sizes": {
        "full": {
            "parameters": 177_010,
            "classes": 50,
            "note": "our rebuild: the paper's sizes are not public; 160,626 without the moments",
        },
        "lite": {"parameters": 1_400_010, "classes": 10, "note": "six views in several resolutions, streams"},
        "micro": {
            "parameters": 63_498,
            "classes": 10,
            "note": "four views, Cortex-M4, streams",
            "ram_bytes": 7_616,
        },
    },
}


@dataclass(frozen=True)
class View:
    """Pieces of `frames` × `bands` that lie side by side, and what is made of each.

    `mean` frames are averaged before, all there are where the input has fewer. Pieces with all bands have the
    number of bands of the front end.
    """

    frames: int
    bands: int
    hidden: int  # units of encoder and decoder
    width: int  # of the bottleneck
    centroids: int
    mean: int = 1


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd
    seconds: float  # of sound in one input
    max_frames: int  # the hop grows until the input has no more
    views: tuple[View, ...]
    hidden: int  # units of the head
    dropout: float = 0.0  # of the embedding


FULL = Config(
    FrontEnd(bands=64, hop=160),
    seconds=10.0,
    max_frames=1000,
    views=(
        View(1, 64, 64, 16, 128),  # frame
        View(1, 64, 64, 16, 128, mean=100),  # a second
        View(16, 16, 128, 16, 128),  # patch
        View(4, 64, 128, 16, 128),  # slice
    ),
    hidden=128,
    dropout=0.2,
)
LITE = Config(
    FrontEnd(bands=64, hop=200),
    seconds=1.0,
    max_frames=128,
    views=(
        View(1, 64, 256, 32, 256),
        View(1, 64, 256, 32, 256, mean=80),
        View(8, 8, 256, 32, 256),
        View(8, 32, 256, 32, 256),
        View(4, 64, 256, 32, 256),
        View(8, 64, 256, 32, 256),
    ),
    hidden=512,
    dropout=0.2,
)
MICRO = Config(
    FrontEnd(hop=200),  # 12.5 ms: eight frames, which every view divides, make a hop of 100 ms
    seconds=1.0,
    max_frames=128,
    views=(
        View(1, 40, 64, 16, 64),
        View(1, 40, 64, 16, 64, mean=80),
        View(8, 8, 64, 16, 128),
        View(4, 40, 64, 16, 128),
    ),
    hidden=64,
    dropout=0.1,
)
SIZES = {"full": FULL, "lite": LITE, "micro": MICRO}

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)
RECIPES = {
    "full": Recipe(epochs=60, colour=COLOUR, seconds=10.0, teacher="none"),
    "lite": Recipe(epochs=40, learning_rate=2e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=40, learning_rate=4e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> FrontEnd:
    """Return the front end whose features the net takes."""
    front: FrontEnd = covering(config.front, config.seconds, config.max_frames)
    return front


def averaged(image: Any, view: View, name: str) -> Any:
    """Return the image (batch, frames, bands, 1) that a view looks at: means of `view.mean` frames."""
    count = min(view.mean, image.shape[1])
    return image if count == 1 else layers.AveragePooling2D((count, 1), name=f"{name}_mean")(image)


def encoded(seen: Any, view: View, name: str) -> Any:
    """Return the bottlenecks (batch, time, frequency, width) of all pieces of what a view sees.

    A dense layer over pieces that lie side by side is a convolution as large as its stride.

    Raises:
        UserError: the view sees less than one piece.
    """
    size = (view.frames, view.bands)
    frames, bands = seen.shape[1:3]
    if frames < view.frames or bands < view.bands:
        raise UserError(
            f"{name} looks at pieces of {view.frames} frames × {view.bands} bands, but sees only "
            f"{frames} × {bands}: give it longer inputs"
        )
    x = layers.Conv2D(view.hidden, size, size, activation="relu", name=f"{name}_encode1")(seen)
    return layers.Conv2D(view.width, (1, 1), name=f"{name}_encode2")(x)


def told(codes: Any, view: View, name: str) -> Iterator[Any]:
    """Yield the histogram of the codes and the moments of the bottlenecks, (batch, …) of unit variance."""
    chosen = ops.softmax(Centroids(view.centroids, name=f"{name}_centroids")(codes), axis=-1)
    parts = {"histogram": chosen, "first": codes, "second": codes * codes}
    for part, values in parts.items():
        total = ops.mean(values, axis=(1, 2))
        options = {"momentum": 0.9, "center": False, "scale": False}
        yield layers.BatchNormalization(**options, name=f"{name}_{part}")(total)


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, bands) in dB to (batch, classes) logits."""
    front = frontend(config)
    features = keras.Input((front.frames, front.features), name="features")
    x = normalise.bands(features, affine=False)
    image = layers.Reshape((front.frames, front.features, 1), name="image")(x)
    parts: list[Any] = []
    for number, view in enumerate(config.views, 1):
        name = f"view{number}"
        codes = encoded(averaged(image, view, name), view, name)
        parts.append(layers.Concatenate(name=f"{name}_statistics")(list(told(codes, view, name))))
    x = layers.Identity(name="embedding")(layers.Concatenate(name="statistics")(parts))
    x = layers.Dropout(config.dropout, name="head_dropout")(x)
    x = layers.Dense(config.hidden, activation="relu", name="fc1")(x)
    return keras.Model(features, layers.Dense(classes, name="logits")(x), name="bow_stats")


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: hidden units of encoders and head."""
    layers_of = [
        (f"views.{i}.hidden", view.hidden, f"view{i + 1}_encode1", f"view{i + 1}_encode2", 3, 2)
        for i, view in enumerate(config.views)
    ]
    layers_of.append(("hidden", config.hidden, "fc1", "logits", 1, 0))
    found = []
    for field, units, layer, reader, out, into in layers_of:
        behind = Slice(f"{reader}/kernel", into)
        own = (Slice(f"{layer}/kernel", out), Slice(f"{layer}/bias", 0), behind)
        found.append(Group(field, units, own, (behind,), "taylor", min(8, units), multiple=4))
    return tuple(found)


def objective(config: Config, classes: int) -> keras.Model:
    """Return the training of the autoencoders and, in it, of the centroids; labels are not needed."""
    return Autoencoders(net(config, classes), config, name="bow_stats_autoencoders")


class Autoencoders(keras.Model):
    """The encoders and centroids of `net` in their training: reconstruction, and stochastic k-means.

    Fitted on features alone. The loss is the mean squared error of every piece of a view, decoded, plus the
    squared distance of the bottlenecks to their nearest centroids: its gradient moves a centroid to the mean
    of what is nearest to it (Bottou and Bengio 1995), and a quarter of it the bottleneck to the centroid
    (commitment, van den Oord et al. 2017, 1711.00937). The head of `net` is frozen: it sees no labels here.
    """

    targets = None

    def __init__(self, inner: Any, config: Config, **kwargs: Any):
        super().__init__(**kwargs)
        self.net, self.views = inner, config.views
        for layer in ("fc1", "logits"):
            inner.get_layer(layer).trainable = False
        self.names = [f"view{number}" for number in range(1, len(config.views) + 1)]
        wanted = [inner.get_layer(f"{name}_encode{n}") for name in self.names for n in (1, 2)]
        self.body = keras.Model(
            inner.input, [layer.input if n % 2 == 0 else layer.output for n, layer in enumerate(wanted)]
        )
        self.centroids = [inner.get_layer(f"{name}_centroids") for name in self.names]
        self.decoders = [
            keras.Sequential(
                [layers.Dense(view.hidden, activation="relu"), layers.Dense(view.frames * view.bands)],
                name=f"{name}_decode",
            )
            for name, view in zip(self.names, config.views, strict=True)
        ]

    def call(self, x: Any, training: bool | None = None) -> list[tuple[Any, Any, Any]]:
        """Return for each view its pieces, what the decoder makes of them, and the squared distances."""
        seen = self.body(x, training=training)
        found = []
        for index, view in enumerate(self.views):
            image, codes = seen[2 * index], seen[2 * index + 1]
            centre = ops.take(
                self.centroids[index].codes, nearest(codes, self.centroids[index].codes), axis=0
            )
            moved = ops.square(ops.stop_gradient(codes) - centre)
            committed = ops.square(codes - ops.stop_gradient(centre))
            found.append((pieces(image, view), self.decoders[index](codes), moved + 0.25 * committed))
        return found

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the mean over views of reconstruction error and distance to the centroids."""
        losses = [ops.mean(ops.square(made - piece)) + ops.mean(apart) for piece, made, apart in y_pred]
        return sum(losses) / len(losses)


def pieces(image: Any, view: View) -> Any:
    """Return the pieces (batch, time, frequency, frames·bands) of an image (batch, frames, bands, 1)."""
    time, frequency = image.shape[1] // view.frames, image.shape[2] // view.bands
    x = image[:, : time * view.frames, : frequency * view.bands, 0]
    x = ops.reshape(x, (-1, time, view.frames, frequency, view.bands))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (-1, time, frequency, view.frames * view.bands))
