"""BEATs: a transformer that predicts its own acoustic tokens (Chen et al. 2022, arXiv 2212.09058).

Input: Kaldi filterbank of 128 bands of the waveform times 2¹⁵, Povey window, (x - 15.41663) / (2·6.55582),
float32 (batch, frames, bands); LITE and MICRO: log-mel in dB. Output: logits (batch, classes), the mean
over all patches. Official code: MIT, of inference alone. Pretraining here follows the paper:

1. `objective`: labels of a random projection; three quarters of the patches masked and dropped, the encoder
   sees the rest as a sequence, a small transformer predicts the labels of what is missing.
2. `distillation`: a tokenizer (encoder, codebook) whose codes let an estimator predict what the encoder says.
3. `masked_prediction` with that `tokenizer`: the next iteration; and so on.

Counted is all: 90,311,792 for the encoder, 90,717,055 with 527 classes. The released tokenizers have
91,624,560: ours 91,099,248 trainable and the codebook of 262,144 that no gradient reaches; the official
module keeps a second one of that size and 1,024 sums that its forward pass does not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import keras
from keras import layers, ops

from models.blocks import normalise
from models.blocks.attention import PLAIN, Encoder, Layer, encoder_groups, transformer
from models.blocks.codebook import Codebook, RandomProjection, unit
from models.blocks.front import covering
from models.blocks.groups import Group
from models.blocks.patches import Patches
from models.blocks.patchout import BackInPlace, Shown
from models.blocks.relative_attention import GatedRelative, Relative
from models.blocks.wav2vec import RENAMED, ConvolvedPositions
from models.colour import Colour
from models.frontend import FrontEnd
from models.fronts import Front
from models.fronts.kaldi import Kaldi
from models.official import Layout, Rule, conv1d, conv2d, dense, linear, norm
from models.train import Recipe

CARD = {
    "title": "BEATs: transformer pretrained on acoustic tokens of its own",
    "task": "classification",
    "paper": "https://arxiv.org/abs/2212.09058",
    "licence": "MIT (official code); Apache-2.0 (this code)",
    "streaming": "window",
    "weights": {
        "where": "github.com/microsoft/unilm/tree/master/beats",
        "licence": "MIT",
        "commercial": True,
    },
    "sizes": {
        "full": {
            "parameters": 90_717_055,
            "classes": 527,
            "note": "12 layers of 768; encoder 90,311,792",
        },
        "lite": {"parameters": 4_072_237, "classes": 10, "note": "9 layers of 192; phone or Pi"},
        "micro": {
            "parameters": 151_818,
            "classes": 10,
            "note": "4 layers of 64, no relative bias, Cortex-M7",
            "ram_bytes": 9_512,
        },
    },
}


@dataclass(frozen=True)
class Convolved:
    """Positions from a weight-normed convolution of `groups` groups over the tokens."""

    taps: int
    groups: int


@dataclass(frozen=True)
class Depthwise:
    """Positions from a depthwise convolution over the tokens, which int8 carries."""

    taps: int


@dataclass(frozen=True)
class Pretraining:
    """How an encoder, and a tokenizer for it, are pretrained; the paper's values."""

    hidden: float = 0.75  # share of the patches that are masked and dropped
    predictor: int = 1  # layers of the label predictor
    estimator: int = 3  # layers that estimate the teacher from codes
    codes: int = 1024
    code_width: int = 256


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd | Kaldi
    seconds: float  # of sound in one input
    max_frames: int  # the hop of a FrontEnd grows until the input has no more
    patches: Patches  # side by side
    embed: int  # width of a patch before it is projected; the encoder's: it is not
    positions: Convolved | Depthwise
    encoder: Encoder
    relative: Relative = field(default_factory=Relative)
    pretraining: Pretraining = field(default_factory=Pretraining)


KALDI = Kaldi(998, 15.41663, 6.55582, window="povey", gain=2.0**15, centred=False, filled=False)
FULL = Config(
    KALDI,
    seconds=10.0,
    max_frames=998,
    patches=Patches((16, 16), (16, 16)),
    embed=512,
    positions=Convolved(128, 16),
    encoder=Encoder(
        768, 0, (Layer(12, 64, 3072),) * 12, activation="gelu", norm="deep", epsilon=1e-5, dropout=0.1
    ),
    relative=Relative(320, 800),
)
LITE = Config(
    FrontEnd(hop=160, bands=64),
    seconds=1.0,
    max_frames=100,
    patches=Patches((16, 16), (16, 16)),
    embed=128,
    positions=Depthwise(17),
    encoder=Encoder(192, 0, (Layer(3, 64, 768),) * 9, norm="deep", epsilon=1e-5, dropout=0.1),
    relative=Relative(64, 64),
    pretraining=Pretraining(codes=256, code_width=64),
)
MICRO = Config(
    FrontEnd(hop=160, bands=64),
    seconds=1.0,
    max_frames=100,
    patches=Patches((64, 4), (64, 4)),
    embed=64,
    positions=Depthwise(9),
    encoder=Encoder(64, 0, (Layer(4, 16, 128),) * 4, norm="deep", epsilon=1e-5),
    pretraining=Pretraining(estimator=1, codes=64, code_width=16),
)

SIZES = {"full": FULL, "lite": LITE, "micro": MICRO}

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)

RECIPES = {
    "full": Recipe(epochs=50, batch=16, learning_rate=1e-4, mixup=0.8, masks=1, widest=0.2),
    "lite": Recipe(epochs=20, learning_rate=1e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=60, learning_rate=4e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, bands) to (batch, classes) logits."""
    features, x = normalise.incoming(frontend(config))
    x = layers.Identity(name="frames")(_encoded(_tokens(x, config), config))
    x = layers.Identity(name="embedding")(ops.mean(x, axis=1))
    return keras.Model(features, layers.Dense(classes, name="logits")(x), name="beats")


def _tokens(x: Any, config: Config) -> Any:
    """Return (batch, columns·rows, width) of (batch, frames, bands): patches of one time after the other."""
    frames, bands = x.shape[1:]
    (high, long), (rows, columns) = config.patches.size, config.patches.grid(frames, bands)
    image = layers.Reshape((frames, bands, 1), name="patch_image")(x)
    size = (long, high)
    x = layers.Conv2D(config.embed, size, size, use_bias=False, name="patch")(image)
    x = layers.Reshape((columns * rows, config.embed), name="patch_rows")(x)
    x = normalise.LayerNorm(1e-5, name="patch_norm")(x)
    if config.embed == config.encoder.width:
        return x
    return layers.Dense(config.encoder.width, name="project")(x)


def _encoded(x: Any, config: Config, prefix: str = "") -> Any:
    """Return (batch, n, width) of tokens: positions, all layers."""
    encoder, positions = config.encoder, config.positions
    if isinstance(positions, Convolved):
        x = ConvolvedPositions(positions.taps, positions.groups, name=f"{prefix}positions")(x)
    else:
        near = layers.DepthwiseConv1D(positions.taps, padding="same", name=f"{prefix}positions")(x)
        x = x + normalise.sigmoid_gelu(near)
    x = normalise.LayerNorm(encoder.epsilon, name=f"{prefix}positions_norm")(x)
    x = layers.Dropout(encoder.dropout, name=f"{prefix}positions_dropout")(x)
    relative = config.relative
    places = GatedRelative(relative, f"{prefix}relative") if relative.buckets else PLAIN
    return transformer(x, encoder, places, prefix)


def _shallow(config: Config, depth: int) -> Config:
    """Return `config` with an encoder of `depth` layers."""
    return replace(config, encoder=replace(config.encoder, layers=config.encoder.layers[:1] * depth))


def objective(config: Config, classes: int) -> keras.Model:
    """Return the first iteration of pretraining; `classes` are not needed."""
    del classes
    return masked_prediction(config)


def masked_prediction(config: Config, labels: keras.Model | None = None) -> keras.Model:
    """Return the model `features` to (batch,), the share of hidden patches whose label is predicted.

    Its loss is inside: the cross-entropy of the labels of hidden patches. `labels` is a `tokenizer`, which
    is frozen; None: a random projection of the patches. The code of the pretraining is not public: here the
    patches that are kept are a sequence of their own, and the predictor's positions place them.
    """
    how = config.pretraining
    features, x = normalise.incoming(frontend(config))
    shown = _tokens(x, config)
    if labels is None:
        wanted = RandomProjection(how.codes, name="random")(_pieces(x, config))
    else:
        wanted = Frozen(labels, name="tokenizer")(features)
    count = shown.shape[1]
    kept = max(1, count - round(how.hidden * count))
    shown, places = Shown(kept, name="shown")(shown)
    seen = BackInPlace(name="back")(_encoded(shown, config), places)
    seen = _encoded(seen, _shallow(config, how.predictor), "predictor_")
    guess = layers.Dense(how.codes, name="guess")(seen)
    right = HiddenLabelLoss(kept, name="loss")(guess, wanted, places)
    model = keras.Model(features, right, name="beats_masked_prediction")
    model.targets = None
    return model


def _pieces(x: Any, config: Config) -> Any:
    """Return the values of each patch, (batch, columns·rows, frames·bands of a patch), ordered as tokens."""
    (high, long), (rows, columns) = config.patches.size, config.patches.grid(*x.shape[1:])
    x = ops.reshape(x[:, : columns * long, : rows * high], (-1, columns, long, rows, high))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (-1, columns * rows, long * high))


def _vectors(x: Any, config: Config) -> Any:
    """Return what a tokenizer looks up, (batch, patches, code_width)."""
    x = layers.Identity(name="frames")(_encoded(_tokens(x, config), config))
    x = layers.Dense(config.encoder.width, activation="tanh", name="code1")(x)
    return layers.Dense(config.pretraining.code_width, name="code2")(x)


def tokenizer(config: Config) -> keras.Model:
    """Return the acoustic tokenizer: `features` to the code of each patch, (batch, patches), int32."""
    features, x = normalise.incoming(frontend(config))
    _, codes = Codebook(config.pretraining.codes, name="codebook")(_vectors(x, config))
    return keras.Model(features, codes, name="beats_tokenizer")


def distillation(config: Config, teacher: keras.Model) -> keras.Model:
    """Return the training of a tokenizer: `features` to (batch,), how alike estimate and teacher are, to 1.

    `teacher` gives (batch, patches, width) of the features, such as the layer `frames` of a net does, and is
    frozen. Its loss is inside: 1 - cosine, and the distance of vectors from their codes. The weights of
    `tokenizer(config)` are among those of this net, under the same names.
    """
    features, x = normalise.incoming(frontend(config))
    quantised, _ = Codebook(config.pretraining.codes, name="codebook")(_vectors(x, config))
    x = layers.Dense(config.encoder.width, name="estimator_project")(quantised)
    x = _encoded(x, _shallow(config, config.pretraining.estimator), "estimator_")
    wanted = Frozen(teacher, name="teacher")(features)
    alike = CosineLoss(name="loss")(layers.Dense(wanted.shape[-1], name="estimate")(x), wanted)
    model = keras.Model(features, alike, name="beats_distillation")
    model.targets = None
    return model


class Frozen(layers.Layer):
    """Answers as a net does that is not in training; from now on nothing of that net is trained."""

    def __init__(self, net: keras.Model, **kwargs: Any):
        super().__init__(**kwargs)
        self.net = net
        self.trainable = False

    def call(self, x: Any) -> Any:
        """Return the output of the net."""
        return ops.stop_gradient(self.net(x, training=False))

    def compute_output_spec(self, x: Any) -> Any:
        """Return the symbolic result."""
        return keras.KerasTensor(self.net.output.shape, self.net.output.dtype)


class HiddenLabelLoss(layers.Layer):
    """Cross-entropy of labels where patches are hidden: behind the first `kept` of the places."""

    def __init__(self, kept: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.kept = kept

    def call(self, guess: Any, wanted: Any, places: Any) -> Any:
        """Add the loss of logits (batch, n, codes), labels (batch, n); return the share right, (batch,)."""
        hidden = places[:, self.kept :]
        wanted = ops.take_along_axis(wanted, hidden, axis=1)
        guess = ops.take_along_axis(guess, hidden[..., None], axis=1)
        self.add_loss(ops.mean(ops.sparse_categorical_crossentropy(wanted, guess, from_logits=True)))
        right = ops.cast(ops.argmax(guess, axis=-1), "int32") == wanted
        return ops.mean(ops.cast(right, "float32"), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "kept": self.kept}


class CosineLoss(layers.Layer):
    """1 - the cosine of vectors (batch, n, width), on average."""

    def call(self, found: Any, wanted: Any) -> Any:
        """Add the loss, and return the mean cosine of each example, (batch,)."""
        alike = ops.mean(ops.sum(unit(found) * unit(wanted), axis=-1), axis=-1)
        self.add_loss(1 - ops.mean(alike))
        return alike


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: hidden units, and heads where they share no relative bias."""
    found = encoder_groups(config.encoder, "encoder")
    return tuple(g for g in found if not (config.relative.buckets and g.field.endswith(".heads")))


def official(config: Config) -> Layout:
    """Return where the official checkpoint has the weights of `net`, or of `tokenizer`."""
    del config
    layer = "encoder.layers.{1-}"
    attention = f"{layer}.self_attn"
    return Layout(
        "microsoft/unilm/beats",
        (
            Rule("patch/kernel", "patch_embedding.weight", conv2d),
            *norm("patch_norm", "layer_norm"),
            *dense("project", "post_extract_proj"),
            Rule("positions/magnitude", "encoder.pos_conv.0.weight_g", lambda g: g.reshape(-1)),
            Rule("positions/direction", "encoder.pos_conv.0.weight_v", conv1d),
            Rule("positions/bias", "encoder.pos_conv.0.bias"),
            *norm("positions_norm", "encoder.layer_norm"),
            Rule("relative/table", "encoder.layers.0.self_attn.relative_attention_bias.weight"),
            Rule(r"layer(\d+)_gate/kernel", f"{attention}.grep_linear.weight", linear),
            Rule(r"layer(\d+)_gate/bias", f"{attention}.grep_linear.bias"),
            Rule(r"layer(\d+)_gate/scale", f"{attention}.grep_a", lambda scale: scale.reshape(-1)),
            *dense(r"layer(\d+)_query", f"{attention}.q_proj"),
            *dense(r"layer(\d+)_key", f"{attention}.k_proj"),
            *dense(r"layer(\d+)_value", f"{attention}.v_proj"),
            *dense(r"layer(\d+)_output", f"{attention}.out_proj"),
            *norm(r"layer(\d+)_norm1", f"{layer}.self_attn_layer_norm"),
            *dense(r"layer(\d+)_up", f"{layer}.fc1"),
            *dense(r"layer(\d+)_down", f"{layer}.fc2"),
            *norm(r"layer(\d+)_norm2", f"{layer}.final_layer_norm"),
            *dense("logits", "predictor"),
            *dense("code1", "quantize_layer.0"),
            *dense("code2", "quantize_layer.2"),
            Rule("codebook/codes", "quantize.embedding.weight"),
            Rule("codebook/started", "quantize.embedding.initted", lambda flag: flag.reshape(())),
        ),
        prefixes=("module.",),
        ignored=(
            r"encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight",  # one table, for all layers
            r"quantize\.(embedding\.)?cluster_size",  # counts, for statistics
            r"quantize\.embedding\.embed_avg",  # the forward pass never reads it
        ),
        optional=(r"logits/.*",),
        own=(r"bn0/.*",),
        renamed=RENAMED,
    )
