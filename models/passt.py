"""PaSST: a spectrogram transformer trained with patches left out (Koutini et al. 2022, arXiv 2110.05069).

Official code: Apache-2.0.

Input: log-mel of 128 bands at 32 kHz, float32 (batch, frames, bands); LITE and MICRO: log-mel in dB.
Output: logits (batch, classes). What makes it: a patch knows its row and its column by two vectors, so
that patches can be left out at random in training (patchout: less to compute, and a regulariser). Without
any retraining they can be left out at inference, too: `thinned`.

Counted is what the forward pass uses. The official module also keeps a head on the distillation token that
nothing uses, 405,263 parameters for 527 classes: full 86,153,758 with it, s16 86,122,270, hop100 86,323,486,
20s 86,231,326, 30s 86,308,126, light 50,714,398.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from boards.errors import UserError
from models.blocks import cost, hear, normalise
from models.blocks.attention import Encoder, Layer, encoder_groups, transformer
from models.blocks.front import covering
from models.blocks.groups import Group
from models.blocks.patches import Patches, split_table, tokens
from models.blocks.patchout import DisentangledPositions, PatchesOut, Patchout, PlacedSpecial
from models.blocks.tagging import Tagging
from models.blocks.timm import transformer_rules
from models.colour import Colour
from models.frontend import FrontEnd
from models.fronts import Floats, Front
from models.fronts.passt_mel import PasstMel
from models.official import Layout, Rule, dense, norm
from models.train import Recipe

CARD = {
    "title": "PaSST: spectrogram transformer with patchout",
    "task": "classification",
    "paper": "https://arxiv.org/abs/2110.05069",
    "licence": "Apache-2.0 (official code); Apache-2.0 (this code)",
    "streaming": "window",
    "weights": {
        "where": "github.com/kkoutini/PaSST/releases",
        "licence": "Apache-2.0",
        "commercial": True,
    },
    "sizes": {
        "full": {
            "parameters": 85_748_495,
            "classes": 527,
            "note": "PaSST-S: 12 layers of 768, patches of 16 × 16 every 10; 86,153,758 with the unused head",
        },
        "s16": {"parameters": 85_717_007, "classes": 527, "note": "PaSST-S, patches side by side"},
        "hop100": {"parameters": 85_918_223, "classes": 527, "note": "PaSST-S, a frame every 100 samples"},
        "20s": {"parameters": 85_826_063, "classes": 527, "note": "PaSST-S, positions for 20 s"},
        "30s": {"parameters": 85_902_863, "classes": 527, "note": "PaSST-S, positions for 30 s"},
        "light": {"parameters": 50_309_135, "classes": 527, "note": "PaSST-L: 7 layers of 768"},
        "lite": {"parameters": 4_059_274, "classes": 10, "note": "9 layers of 192; phone or Pi"},
        "micro": {
            "parameters": 151_882,
            "classes": 10,
            "note": "4 layers of 64, no special tokens, Cortex-M7",
            "ram_bytes": 9_120,
        },
    },
}


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd | PasstMel
    seconds: float  # of sound in one input
    max_frames: int  # the hop of a FrontEnd grows until the input has no more
    patches: Patches
    encoder: Encoder
    learned: int  # columns of patches that there are positions for
    special: int = 0  # learned tokens, whose mean is the embedding; 0: the mean over all patches is
    patchout: Patchout = field(default_factory=Patchout)  # in training, of a clip of `learned` columns
    thinned: Patchout = field(default_factory=Patchout)  # at inference, likewise
    dropout: float = 0.0  # before the classifier


def published(seconds: float, learned: int, stride: int = 10, hop: int = 320, depth: int = 12) -> Config:
    """Return a PaSST of DeiT-B's width with the patchout it was trained with."""
    encoder = Encoder(768, 0, (Layer(12, 64, 3072),) * depth, activation="gelu", norm="pre")
    patches = Patches((16, 16), (stride, stride))
    front = PasstMel(hop=hop)
    frames = front.lasting(seconds).frames
    return Config(front, seconds, frames, patches, encoder, learned, special=2, patchout=Patchout(40, 4))


FULL = published(10.0, 99)
LITE = Config(
    FrontEnd(hop=160, bands=64),
    seconds=1.0,
    max_frames=100,
    patches=Patches((16, 16), (10, 10)),
    encoder=Encoder(192, 0, (Layer(3, 64, 768),) * 9, norm="pre", dropout=0.1),
    learned=9,
    special=2,
    patchout=Patchout(columns=3, rows=1),
)
MICRO = Config(
    FrontEnd(hop=160, bands=64),
    seconds=1.0,
    max_frames=100,
    patches=Patches((16, 16), (16, 16)),
    encoder=Encoder(64, 0, (Layer(4, 16, 128),) * 4, norm="pre"),
    learned=6,
    patchout=Patchout(columns=1, rows=1),
)

SIZES = {
    "full": FULL,
    "s16": published(10.0, 62, stride=16),
    "hop100": published(10.0, 320, hop=100),
    "20s": published(20.0, 200),
    "30s": published(30.0, 300),
    "light": published(10.0, 99, depth=7),
    "lite": LITE,
    "micro": MICRO,
}

MIXUP = 0.3  # α of the Beta distribution
HEAR_HOP = 50  # ms

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)
AUDIOSET = Recipe(
    epochs=130, batch=12, learning_rate=2e-5, weight_decay=1e-4, mixup=MIXUP, masks=1, widest=0.375
)

RECIPES = {
    **dict.fromkeys(("full", "s16", "hop100", "20s", "30s", "light"), AUDIOSET),
    "lite": Recipe(epochs=20, learning_rate=1e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=60, learning_rate=2e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, bands) to (batch, classes) logits."""
    front = frontend(config)
    features, x = normalise.incoming(front)
    grid = config.patches.grid(front.frames, front.features)
    x = tokens(x, config.patches, config.encoder.width)
    x = DisentangledPositions(grid, config.learned, name="position")(x)
    drawn, thinned = (out.among(grid[1], config.learned) for out in (config.patchout, config.thinned))
    x = PatchesOut(grid, drawn, thinned, name="patchout")(x)
    if config.special:
        x = PlacedSpecial(config.special, name="special")(x)
    x = transformer(layers.Dropout(config.encoder.dropout, name="embed_dropout")(x), config.encoder)
    pooled = ops.mean(x[:, : config.special] if config.special else x, axis=1)
    embedding = layers.Identity(name="embedding")(pooled)
    x = normalise.LayerNorm(1e-5, name="head_norm")(embedding)
    x = layers.Dropout(config.dropout, name="head_dropout")(x)
    return keras.Model(features, layers.Dense(classes, name="logits")(x), name="passt")


def objective(config: Config, classes: int) -> keras.Model:
    """Return the training: binary cross-entropy of any number of tags a clip, with mixup and patchout."""
    return Tagging(net(config, classes), ("features",), alpha=MIXUP, name="passt_tagging")


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: heads and hidden units."""
    return encoder_groups(config.encoder, "encoder")


def official(config: Config) -> Layout:
    """Return where the official checkpoint has the weights of the net."""

    def patch(kernel: NDArray[Any]) -> NDArray[Any]:
        return np.transpose(kernel, (3, 2, 1, 0))  # the official image is (bands, frames)

    return Layout(
        "kkoutini/PaSST",
        (
            Rule("patch/kernel", "patch_embed.proj.weight", patch),
            Rule("patch/bias", "patch_embed.proj.bias"),
            Rule("position/frequency", "freq_new_pos_embed", lambda table: table[0, :, :, 0].T),
            Rule("position/time", "time_new_pos_embed", lambda table: table[0, :, 0].T),
            Rule("special/token", ("cls_token", "dist_token"), lambda *parts: split_table(parts)),
            Rule("special/position", "new_pos_embed", lambda table: table[0]),
            *transformer_rules(),
            *norm("head_norm", "head.0"),
            *dense("logits", "head.1"),
        ),
        prefixes=("module.", "net."),
        ignored=(r"head_dist\..*",),  # of the distillation token; the forward pass never reads it
        optional=(r"(head_norm|logits)/.*",),
        own=(r"bn0/.*",),
    )


class Hear:
    """Embeddings for the HEAR benchmark: logits and embedding of a sound, 1,295 values of a full size.

    Windows of other lengths than the net's run through nets of those lengths on the same weights.
    """

    def __init__(self, config: Config, net: keras.Model):
        if not isinstance(config.front, PasstMel):
            raise UserError("HEAR embeddings are of the published sizes")
        self.config, self.net, self.front = config, _telling(net), config.front
        self.rate = config.front.sample_rate
        self._nets: dict[int, keras.Model] = {}

    def scene(self, sound: Floats) -> Floats:
        """Return the embedding (values,) of a waveform (samples,) of ±1.0: beyond `seconds` the mean over
        windows of so many seconds, one every quarter of that.
        """
        longest = round(self.config.seconds * self.rate)
        return hear.scene(sound, self.rate, self.embed, longest, longest // 4)

    def stamps(self, sound: Floats, windows: Sequence[int] = (160,)) -> tuple[Floats, NDArray[np.float64]]:
        """Return embeddings (n, values) one every 50 ms, and their times in ms; of several `windows` (in ms)
        side by side, as the variants of two levels (160 and 800) have them.
        """
        hop = HEAR_HOP * self.rate // 1000
        found = [hear.stamps(sound, self.rate, self.embed, ms * self.rate // 1000, hop) for ms in windows]
        return np.concatenate([values for values, _ in found], axis=1), found[0][1]

    def embed(self, sounds: Floats) -> Floats:
        """Return logits and embedding side by side, (n, classes + width), of waveforms (n, samples)."""
        front = self.front.lasting(sounds.shape[1] / self.rate)
        model = self._of(front)
        values = [v.value for v in self.net.trainable_variables]
        state = [v.value for v in self.net.non_trainable_variables]
        parts = []
        for sound in sounds:
            (logits, embedding), _ = model.stateless_call(
                values, state, front.of(sound)[None], training=False
            )
            parts.append(ops.convert_to_numpy(ops.concatenate([logits, embedding], axis=1))[0])
        return np.stack(parts)

    def _of(self, front: PasstMel) -> keras.Model:
        if front.samples not in self._nets:
            config = replace(self.config, front=front, seconds=front.samples / self.rate)
            classes = self.net.output_shape[0][-1]
            self._nets[front.samples] = cost.shape_only(lambda: _telling(net(config, classes)))
        return self._nets[front.samples]


def _telling(model: keras.Model) -> keras.Model:
    return keras.Model(model.input, [model.output, model.get_layer("embedding").output])
