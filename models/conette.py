"""CoNeTTE: captions for sounds by ConvNeXt and a decoder (Labbé et al. 2023, arXiv 2309.00454; code: MIT).

Input: log-mel features in dB, float32 (batch, frames, bands); published: 224 bands at 32 kHz, 10 s. Output of
`net`: logits (batch, classes), the tagging head of the encoder. Output of `captioner`: logits of the next
token, for features and the tokens so far. A caption begins with the token of the data set whose style is
wanted (task embedding) and its words come from `models.captions`.

FULL has 28,222,767 parameters by the official count: trainable ones with the head of 527 AudioSet classes,
without statistics, STFT and mel matrices. The captioner has no head (405,263) and adds 196,864 (projection)
and 9,472,512 + 513·V (decoder with a vocabulary of V): the trained part, 12,021,481 for V = 4,585.

On a device `greedy` does all, encoder and decoder, as one graph: its steps follow each other with the keys
and values kept, and one task and length are built in. Beam search (`scorer`) asks the captioner on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from models.blocks import cost, normalise
from models.blocks.convnext import ConvNeXt, Stage, convnext, convnext_groups, mean_max
from models.blocks.decoder import Decoder, Pair, Speaker
from models.blocks.front import covering
from models.blocks.groups import Group, Slice
from models.blocks.normalise import LayerNorm
from models.captions import EOS, PAD, Ids, Score, Vocabulary
from models.colour import Colour
from models.frontend import FrontEnd
from models.fronts import Front
from models.fronts.librosa_mel import LibrosaMel
from models.official import Layout, Rule, conv2d, depthwise2d, linear, part
from models.train import Recipe, predict

CARD = {
    "title": "CoNeTTE: ConvNeXt encoder and transformer decoder that caption sounds",
    "task": "captioning",
    "paper": "https://arxiv.org/abs/2309.00454",
    "licence": "MIT (official code); Apache-2.0 (this code)",
    "streaming": "window",
    "weights": {
        "where": "Hugging Face Labbeti/conette, Zenodo 10987498",
        "licence": "MIT",
        "commercial": True,
    },
    "sizes": {
        "full": {
            "parameters": 28_222_767,
            "classes": 527,
            "note": "ConvNeXt-Tiny and its head; decoder apart",
        },
        "lite": {"parameters": 2_845_890, "classes": 10, "note": "widths 40 to 320, phone or Pi; teacher"},
        "micro": {
            "parameters": 31_986,
            "classes": 10,
            "note": "widths 16 to 48, Cortex-M7",
            "ram_bytes": 9_472,
        },
    },
}


@dataclass(frozen=True)
class Captioning:
    """How a captioner learns."""

    label_smoothing: float = 0.1
    mixup: float = 0.4  # α of the Beta distribution that mixes sounds and embedded tokens; 0: none
    frozen: bool = True  # the encoder keeps its weights


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd | LibrosaMel
    seconds: float  # of sound in one input
    max_frames: int  # where the front end is ours, the hop grows until the input has no more
    affine_input: bool  # bn0 has a learned scale and shift
    body: ConvNeXt
    decoder: Decoder
    learning: Captioning
    sound_dropout: float = 0.0  # before and behind the projection
    head_dropout: float = 0.0  # before the tagging head


def stages(widths: Sequence[int], depths: Sequence[int], expansion: int) -> tuple[Stage, ...]:
    """Return stages of `widths`: strides of 4 × 4 first, then of 2 × 2."""
    first, *others = (
        Stage(width, (expansion * width,) * depth) for width, depth in zip(widths, depths, strict=True)
    )
    return (replace(first, reduce=(4, 4)), *others)


def fine(found: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Return `found` with twice as many frames: the last stage keeps those of the one before it."""
    return (*found[:-1], replace(found[-1], reduce=(1, 2)))


def padded(found: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Return `found` with four silent frames at either end, as the official code has them."""
    return (replace(found[0], padding=4), *found[1:])


FULL = Config(
    LibrosaMel(bands=224),
    seconds=10.0,
    max_frames=1001,
    affine_input=True,
    body=ConvNeXt(padded(stages((96, 192, 384, 768), (3, 3, 9, 3), 4))),
    decoder=Decoder(256, heads=8, ffn=2048, layers=6, length=30, dropout=0.2),
    learning=Captioning(),
    sound_dropout=0.5,
)
LITE = Config(
    FrontEnd(bands=64),
    seconds=1.0,
    max_frames=64,
    affine_input=False,
    body=ConvNeXt(
        fine(stages((40, 80, 160, 320), (2, 2, 4, 2), 4)), activation="sigmoid_gelu", layer_scale=1.0
    ),
    decoder=Decoder(128, heads=4, ffn=512, layers=3, length=8, tied=True, activation="relu", dropout=0.1),
    learning=Captioning(frozen=False),
    sound_dropout=0.1,
    head_dropout=0.1,
)
MICRO = Config(
    FrontEnd(bands=64),
    seconds=1.0,
    max_frames=64,
    affine_input=False,
    body=ConvNeXt(
        fine(stages((16, 24, 32, 48), (1, 1, 2, 1), 2)),
        kernel=3,
        activation="sigmoid_gelu",
        layer_scale=1.0,
    ),
    decoder=Decoder(64, heads=4, ffn=128, layers=1, length=8, tied=True, activation="relu"),
    learning=Captioning(frozen=False, mixup=0.0),
)

SIZES = {"full": FULL, "lite": LITE, "micro": MICRO}

SHARP = 64.0  # a step of int8 logits, a tenth or so, times this is a certainty
COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)
RECIPES = {
    "full": Recipe(epochs=100, batch=128, learning_rate=5e-4, weight_decay=2.0, teacher="none"),
    "lite": Recipe(epochs=20, learning_rate=2e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=40, learning_rate=8e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def encoder(config: Config) -> keras.Model:
    """Return features (batch, frames, bands) to frames (batch, time, width of the last stage)."""
    front = frontend(config)
    features = keras.Input((front.frames, front.features), name="features")
    x = normalise.bands(features, config.affine_input)
    x = layers.Reshape((front.frames, front.features, 1), name="image")(x)
    x = ops.mean(convnext(x, config.body), axis=2)
    return keras.Model(features, layers.Identity(name="frames")(x), name="encoder")


def net(config: Config, classes: int) -> keras.Model:
    """Return the tagging model: (batch, frames, bands) to (batch, classes) logits."""
    heard = encoder(config)
    x = LayerNorm(1e-6, name="norm")(mean_max(heard.output))
    embedding = layers.Identity(name="embedding")(x)
    x = layers.Dropout(config.head_dropout, name="head_dropout")(embedding)
    return keras.Model(heard.input, layers.Dense(classes, name="logits")(x), name="conette")


def projected(frames: Any, config: Config) -> Any:
    """Return what the decoder looks at, (batch, time, decoder's width), of the encoder's frames."""
    x = layers.Dropout(config.sound_dropout, name="sound_dropout")(frames)
    x = layers.Dense(config.decoder.width, activation="relu", name="projection")(x)
    return layers.Dropout(config.sound_dropout, name="sound")(x)


def captioner(config: Config, vocabulary: int) -> keras.Model:
    """Return [features (batch, frames, bands), tokens int32 (batch, length)] to (batch, length, vocabulary).

    Place i of the output holds the logits of the token behind the tokens 0 … i.
    """
    heard, speaker = encoder(config), Speaker(config.decoder, vocabulary)
    tokens = keras.Input((config.decoder.length,), dtype="int32", name="tokens")
    rows = layers.Identity(name="rows")(speaker.embedded(tokens))
    logits = speaker.all(rows, projected(heard.output, config))
    return keras.Model([heard.input, tokens], logits, name="conette_captioner")


def halves(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return a captioner as features → sound and [sound, tokens] → logits, which share its weights."""
    features, tokens = model.inputs
    sound = model.get_layer("sound").output
    return keras.Model(features, sound), keras.Model([sound, tokens], model.output)


def scorer(model: keras.Model, x: Any) -> Score:
    """Return what `beam_search` asks of a captioner that hears features `x` (N, frames, bands)."""
    hear, say = halves(model)
    sound, length = predict(hear, x), model.output_shape[1]

    def score(tokens: Ids, clips: NDArray[np.intp]) -> NDArray[np.float32]:
        padded = np.full((len(tokens), length), PAD, np.int32)
        padded[:, : tokens.shape[1]] = tokens
        logits = say([sound[clips], padded], training=False)[:, tokens.shape[1] - 1]
        return np.array(ops.convert_to_numpy(logits))

    return score


def greedy(config: Config, words: Vocabulary, task: str, bound: float) -> keras.Model:
    """Return greedy decoding as one net for a device: (batch, frames, bands) to (batch, length, tokens).

    Row i is one-hot: the likeliest token of step i, which is embedded for the next. It is picked by a softmax
    of `SHARP` times the logits, which int8 has and which leaves no second choice. No token of `words.once`
    comes twice, and behind the end stands the end; `bound` is at least the largest logit. The weights have
    the captioner's names.
    """
    heard, speaker = encoder(config), Speaker(config.decoder, words.size)
    sound = speaker.heard(projected(heard.output, config))
    limit = SHARP * bound
    rules = np.diag(np.where(words.once, 2 * limit, -limit / 2)).astype(np.float32)  # token -> what it spends
    rules[EOS] = 2 * limit  # all others: behind the end stands the end
    rules[EOS, EOS] = -limit / 2
    # A softmax does not see what is added to all: the start is certain, yet no constant, which int8 needs.
    level = ops.mean(heard.output, axis=(1, 2), keepdims=True)
    start = limit * np.eye(words.size, dtype=np.float32)[None, None, words.start(task)]
    picked = [ops.softmax(level + start)]
    spent = ops.matmul(picked[0], rules) - limit  # limit where a token is spent, else at most -limit
    before: list[Pair | None] = [None] * config.decoder.layers
    for step in range(config.decoder.length):
        logits, pairs = speaker.next(speaker.embedded(picked[-1]), step, before, sound)
        before = list(pairs)
        scores = SHARP * logits
        picked.append(ops.softmax(scores - ops.relu(scores + spent)))
        spent = limit - ops.relu(limit - (ops.matmul(picked[-1], rules) + spent))  # at most limit
    return keras.Model(heard.input, ops.concatenate(picked[1:], axis=1), name="conette_greedy")


def hand_over(source: keras.Model, target: keras.Model) -> None:
    """Give `target` the weights that it and `source` both have, such as those of one encoder."""
    theirs = cost.weights(source)
    for name, variable in cost.weights(target).items():
        if name in theirs:
            variable.assign(theirs[name])


def caption_loss(targets: Any, logits: Any, smoothing: float) -> Any:
    """Return the mean cross-entropy in nats of tokens int32 (batch, length) that are not padding.

    logits: (batch, length, vocabulary); `smoothing` of each target lies evenly on the whole vocabulary.
    """
    likely = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    right = ops.sum(likely * ops.one_hot(targets, likely.shape[-1]), axis=-1)
    losses = -(1 - smoothing) * right - smoothing * ops.mean(likely, axis=-1)
    counted = ops.cast(ops.not_equal(targets, PAD), losses.dtype)
    return ops.sum(losses * counted) / ops.maximum(ops.sum(counted), 1.0)


class Telling(keras.Model):
    """Captions of sounds: y int32 (batch, length + 1) begins with a task's token and ends in padding.

    Encoded sounds and embedded tokens of two examples are mixed by one λ ≥ ½ a batch, λ ~ Beta(α, α); what is
    asked for is the caption of the first.
    """

    def __init__(self, config: Config, vocabulary: int):
        super().__init__()
        self.captioner, self.learning = captioner(config, vocabulary), config.learning
        self.targets = (config.decoder.length + 1,)
        features, tokens = self.captioner.inputs
        frames, rows = (self.captioner.get_layer(name).output for name in ("frames", "rows"))
        self.encoder = keras.Model(features, frames)
        self.embed, self.say = keras.Model(tokens, rows), keras.Model([frames, rows], self.captioner.output)
        self.encoder.trainable = not self.learning.frozen
        self.seeds = keras.random.SeedGenerator()

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the encoded sound (batch, time, width)."""
        return self.encoder(x, training=training and not self.learning.frozen)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: Any = True,
    ) -> Any:
        """Return the loss of the next tokens, given the true ones before."""
        y = ops.cast(y, "int32")
        frames, rows = y_pred, self.embed(y[:, :-1])
        if training and self.learning.mixup:
            drawn = keras.random.beta((), self.learning.mixup, self.learning.mixup, seed=self.seeds)
            share = ops.maximum(drawn, 1 - drawn)
            frames, rows = (share * v + (1 - share) * ops.roll(v, 1, axis=0) for v in (frames, rows))
        logits = self.say([frames, rows], training=training)
        return caption_loss(y[:, 1:], logits, self.learning.label_smoothing)


def objective(config: Config, classes: int) -> Telling:
    """Return the paper's training of the captioner; its classes are the tokens of the vocabulary."""
    return Telling(config, classes)


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: channels of the encoder's stages and hidden units of its blocks."""
    readers = (Slice("norm/gamma", 0), Slice("norm/beta", 0), Slice("logits/kernel", 0))
    return convnext_groups(config.body, readers, "body")


KINDS = (("gamma", "weight"), ("beta", "bias"), ("bias", "bias"))
STATISTICS = (("moving_mean", "running_mean"), ("moving_variance", "running_var"))
RENAMED = (r"(.*)\.gamma", r"\1.scale_layer")  # as ConvNeXt's own files have it
FRONT_KEYS = (r"(spectrogram|logmel)_extractor\..*", r".*num_batches_tracked")  # ours is a front end


def encoder_rules(prefix: str) -> tuple[Rule, ...]:
    """Return where the encoder's weights are; `prefix` stands before its official keys."""
    block = (r"stage(\d+)_block(\d+)", prefix + "stages.{1-}.{2-}")
    rules = [Rule(f"bn0/{ours}", f"{prefix}bn0.{theirs}") for ours, theirs in (*KINDS[:2], *STATISTICS)]
    for number, conv, norm in (("1", 0, 1), (r"(\d+)", 1, 0)):
        place = f"{prefix}downsample_layers.{'0' if number == '1' else '{1-}'}"
        rules.append(Rule(f"stage{number}_reduce/kernel", f"{place}.{conv}.weight", conv2d))
        rules.append(Rule(f"stage{number}_reduce/bias", f"{place}.{conv}.bias"))
        rules += [Rule(f"stage{number}_reduce_norm/{k}", f"{place}.{norm}.{t}") for k, t in KINDS[:2]]
    rules.append(Rule(f"{block[0]}_dwconv/kernel", f"{block[1]}.dwconv.weight", depthwise2d))
    rules.append(Rule(f"{block[0]}_scale/gamma", f"{block[1]}.scale_layer"))
    for layer in ("pwconv1", "pwconv2"):
        rules.append(Rule(f"{block[0]}_{layer}/kernel", f"{block[1]}.{layer}.weight", linear))
    for layer in ("dwconv", "norm", "pwconv1", "pwconv2"):
        rules += [Rule(f"{block[0]}_{layer}/{k}", f"{block[1]}.{layer}.{t}") for k, t in KINDS]
    return tuple(rules)


def official(config: Config) -> Layout:
    """Return where the tagging model's weights are, in the file of the encoder and in that of CoNeTTE."""
    head = (
        Rule("logits/kernel", "head_audioset.weight", linear),
        Rule("logits/bias", "head_audioset.bias"),
        *(Rule(f"norm/{ours}", f"norm.{theirs}") for ours, theirs in KINDS[:2]),
    )
    return Layout(
        "Labbeti/conette-audio-captioning",
        (*encoder_rules(""), *head),
        prefixes=("module.", "preprocessor.encoder."),
        ignored=(*FRONT_KEYS, r"model\..*", "_extra_state_"),  # of CoNeTTE's file: decoder and tokeniser
        renamed=(RENAMED,),
        optional=("logits/.*",),
    )


def official_captioner(config: Config) -> Layout:
    """Return where the captioner's weights are in the official file of CoNeTTE."""
    decoder, layer = "model.decoder", "model.decoder.layers.{1-}"
    rules = [
        Rule("projection/kernel", "model.projection.2.weight", linear),
        Rule("projection/bias", "model.projection.2.bias"),
        Rule("vocabulary/table", f"{decoder}.emb_layer.weight"),
        Rule("classifier/kernel", f"{decoder}.classifier.weight", linear),
        Rule("classifier/bias", f"{decoder}.classifier.bias"),
    ]
    for ours, theirs in (("self", "self_attn"), ("cross", "multihead_attn")):
        for index, name in enumerate(("query", "key", "value")):
            place = rf"decoder(\d+)_{ours}_{name}"
            rules.append(Rule(f"{place}/kernel", f"{layer}.{theirs}.in_proj_weight", part(index, 3, linear)))
            rules.append(Rule(f"{place}/bias", f"{layer}.{theirs}.in_proj_bias", part(index, 3)))
        place = rf"decoder(\d+)_{ours}_output"
        rules.append(Rule(f"{place}/kernel", f"{layer}.{theirs}.out_proj.weight", linear))
        rules.append(Rule(f"{place}/bias", f"{layer}.{theirs}.out_proj.bias"))
    for ours, theirs in (("up", "linear1"), ("down", "linear2")):
        rules.append(Rule(rf"decoder(\d+)_{ours}/kernel", f"{layer}.{theirs}.weight", linear))
        rules.append(Rule(rf"decoder(\d+)_{ours}/bias", f"{layer}.{theirs}.bias"))
    rules += [Rule(rf"decoder(\d+)_norm(\d)/{k}", f"{layer}.norm{{2}}.{t}") for k, t in KINDS[:2]]
    encoder_keys = "preprocessor.encoder."
    ignored = (
        *(encoder_keys + key for key in FRONT_KEYS),
        encoder_keys + r"(norm|head_audioset)\..*",  # of the tagging head
        r"model\.(task_id_to_token_id|forbid_rep_mask|decoder\.pos_encoding\..*|tokenizers\..*)",  # constants
        "_extra_state_",  # the tokeniser, pickled
    )
    return Layout("Labbeti/conette-audio-captioning", (*encoder_rules(encoder_keys), *rules), ignored=ignored)
