"""Captions of scenes mixed from ESC-10, from float to the board; writes results/captions.md.

`python benchmarks/captions.py ESC10_DIR WORK_DIR`: about six minutes of one core. The sounds that are tested
come from fold 4, those that are learned from folds 1 to 3. MICRO is trained twice with one seed, alone and on
the next-token probabilities of LITE; the latter goes to the device, which decodes greedily in one graph.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

import boards
from firmware.compiler import build
from kit import device, profile
from models import captions, conette, data, frontend, train
from models.blocks import cost
from models.captions import Scene, Search
from models.colour import colour
from models.data.clips import Dataset
from quantize import export, int8

RESULTS = Path(__file__).parent / "results"
BOARD, SEED, FOLD = "virtual-m7", 0, "4"
SECONDS, TASK = 3.0, "sentence"
SCENES, TESTED, ON_BOARD, CALIBRATED = 1_200, 200, 60, 200
VARIANTS = 4  # captions of a scene that are taken in turn, the last one in the style of tags
EPOCHS = {"lite": 12, "micro": 20}
RATE = {"lite": 1.5e-3, "micro": 5e-3}
TAUGHT = 0.7  # share of the teacher's probabilities in what the student is asked for
BATCH = 50
SEARCH = Search(size=3, least=2, most=8)
GREEDY = replace(SEARCH, size=1, least=0)
HEAD = (
    "| captioner | parameters | sounds | order | token F1 | BLEU-4 |",
    "|---|---|---|---|---|---|",
)
NOTE = """
sounds: share of scenes whose set of sounds is named exactly; order: share where also the relation (one,
followed, overlapped) and the order are right; token F1: words shared with the nearest right wording; BLEU-4:
of the whole set, against all right wordings."""


@dataclass(frozen=True)
class Scenes:
    """Scenes, their features (N, frames, bands) in fixed point, and tokens (N, VARIANTS, length + 1)."""

    truth: Sequence[Scene]
    values: NDArray[np.int32]
    tokens: NDArray[np.int32]

    @property
    def x(self) -> NDArray[np.float32]:
        """Return the features in dB."""
        return frontend.to_float(self.values)


def config(size: str) -> conette.Config:
    """Return a size of the family for scenes."""
    return replace(conette.SIZES[size], seconds=SECONDS, max_frames=128)


def words(labels: Sequence[str]) -> captions.Vocabulary:
    """Return the vocabulary of every caption that scenes of `labels` may have."""
    told = [
        caption
        for task in captions.TASKS
        for relation in ("then", "while")
        for a in labels
        for b in labels
        for caption in captions.wordings(Scene(relation, (a, b)), task)
    ]
    return captions.vocabulary(told, captions.TASKS)


def mixed(clips: Dataset, count: int, vocabulary: captions.Vocabulary, seed: int) -> Scenes:
    """Return `count` scenes of `clips`, as the front end of LITE and MICRO hears them."""
    front: Any = conette.frontend(config("micro"))
    truth, sounds = captions.scenes(clips, count, front.samples, front.sample_rate, seed)
    rng = np.random.default_rng(seed)
    tasks = (TASK,) * (VARIANTS - 1) + ("tags",)
    tokens = [
        [vocabulary.encode(str(rng.choice(captions.wordings(scene, t))), t, SEARCH.most) for t in tasks]
        for scene in truth
    ]
    return Scenes(truth, np.stack([frontend.features(sound, front) for sound in sounds]), np.array(tokens))


def learned(size: str, scenes: Scenes, size_of_vocabulary: int, teacher: NDArray[Any] | None = None) -> Any:
    """Return a captioner trained on `scenes`, and on what `probabilities` of a teacher are, where given."""
    made = config(size)
    net = train.seeded(lambda: conette.captioner(made, size_of_vocabulary), SEED)
    train.adapt(net, scenes.x)
    x, recipe = scenes.x, conette.RECIPES[size]
    steps = EPOCHS[size] * len(x) // BATCH
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=RATE[size], warmup_steps=steps // 10
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    net.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=5.0), loss, **train.compile_options()
    )
    hot = np.eye(size_of_vocabulary, dtype=np.float32)
    smooth = made.learning.label_smoothing
    for epoch in range(EPOCHS[size]):
        rng = np.random.default_rng((SEED, epoch))
        tokens, variant = scenes.tokens[:, epoch % VARIANTS], epoch % VARIANTS
        wanted = hot[tokens[:, 1:]] * (1 - smooth) + smooth / size_of_vocabulary
        if teacher is not None:
            wanted = (1 - TAUGHT) * wanted + TAUGHT * teacher[:, variant]
        counted = (tokens[:, 1:] != captions.PAD).astype(np.float32)
        order = rng.permutation(len(x))
        heard = colour(x, recipe.colour, rng)
        inputs = [heard[order], tokens[order, :-1]]
        net.fit(inputs, wanted[order], BATCH, sample_weight=counted[order], shuffle=False, verbose=0)
    return net


def probabilities(net: Any, scenes: Scenes) -> NDArray[np.float32]:
    """Return the next-token probabilities (N, VARIANTS, length, vocabulary) of a captioner."""
    hear, say = conette.halves(net)
    sound = train.predict(hear, scenes.x)
    logits = [
        ops.convert_to_numpy(say([sound, scenes.tokens[:, variant, :-1]], training=False))
        for variant in range(VARIANTS)
    ]
    return np.array(ops.convert_to_numpy(ops.softmax(np.stack(logits, axis=1))))


def told(net: Any, x: NDArray[np.float32], vocabulary: captions.Vocabulary, how: Search) -> list[str]:
    """Return the best caption of each sound."""
    starts = [vocabulary.start(TASK)] * len(x)
    found = captions.beam_search(conette.scorer(net, x), starts, vocabulary.once, how)
    return [vocabulary.decode(beams[0].tokens) for beams in found]


def on_device(net: Any, scenes: Scenes, vocabulary: captions.Vocabulary, model: Path) -> None:
    """Write the captioner as one int8 net that decodes by itself, calibrated on `scenes`."""
    calibration = scenes.x[:CALIBRATED]
    bound = float(np.abs(ops.convert_to_numpy(net([calibration, scenes.tokens[:CALIBRATED, 0, :-1]]))).max())
    greedy = conette.greedy(config("micro"), vocabulary, TASK, 1.1 * bound)
    conette.hand_over(net, greedy)
    with tempfile.TemporaryDirectory() as folder:
        export.float_tflite(greedy, Path(folder) / "float.tflite")
        model.write_bytes(int8.quantise((Path(folder) / "float.tflite").read_bytes(), calibration))


def line(name: str, net: Any, told: Sequence[str], truth: Sequence[Scene], labels: Sequence[str]) -> str:
    """Return a row of the table."""
    marks = captions.marks(told, truth[: len(told)], TASK, labels)
    shares = (marks.sounds, marks.order, marks.f1, marks.bleu)
    return (
        f"| {name} | {cost.parameters(net):,} | "
        + " | ".join(f"{100 * share:.1f}" for share in shares)
        + " |"
    )


def device_rows(net: Any, model: Path, test: Scenes, labels: Sequence[str]) -> tuple[list[str], str]:
    """Return the rows of the int8 net on the host and on the board, and what it costs there."""
    vocabulary = words(labels)
    made = build.compile_model(
        model.read_bytes(), boards.load(BOARD), model.with_suffix(".build"), name="captions"
    )
    inputs = profile.as_input(test.values, made.window)[:, 0]
    decoded = lambda rows: [  # noqa: E731
        vocabulary.decode(one.argmax(axis=-1)) for one in rows.reshape(len(rows), SEARCH.most, -1)
    ]
    host = decoded(profile.on_host(made.window, inputs))
    with device.open(made, None) as board:
        trial = profile.feed(made, board, inputs[:ON_BOARD])
        counted = profile.count(board, trial, None)
    rows = [
        line("MICRO int8, greedy, host", net, host, test.truth, labels),
        line(
            f"MICRO int8, greedy, {BOARD}, first {ON_BOARD}", net, decoded(trial.device), test.truth, labels
        ),
    ]
    flash, ram = made.sizes["flash_bytes"], made.sizes["ram_bytes"]
    return rows, (
        f"The device: one graph from {SECONDS:g} s of features to {SEARCH.most} tokens, "
        f"{made.sizes['macs']:,} MACs, {counted.total:,} instructions (emulated), weights "
        f"{flash['weights']:,} bytes, flash {flash['total']:,}, RAM {ram['total']:,}; "
        f"{int(trial.wrong.sum())} of {len(trial.wrong)} scenes differ from the host in any byte."
    )


def main() -> None:
    """Write the table."""
    source, work = map(Path, sys.argv[1:])
    work.mkdir(parents=True, exist_ok=True)
    clips = data.load(str(source))
    sides = [
        replace(clips, clips=tuple(clip for clip in clips.clips if (clip.fold == FOLD) is test))
        for test in (False, True)
    ]
    labels, vocabulary = clips.labels, words(clips.labels)
    known, test = mixed(sides[0], SCENES, vocabulary, SEED), mixed(sides[1], TESTED, vocabulary, SEED + 1)
    teacher = learned("lite", known, vocabulary.size)
    alone = learned("micro", known, vocabulary.size)
    taught = learned("micro", known, vocabulary.size, probabilities(teacher, known))
    rows = [
        line(name, net, told(net, test.x, vocabulary, how), test.truth, labels)
        for name, net, how in (
            ("LITE, beam 3", teacher, SEARCH),
            ("MICRO from scratch, beam 3", alone, SEARCH),
            ("MICRO distilled from LITE, beam 3", taught, SEARCH),
            ("MICRO distilled from LITE, greedy", taught, GREEDY),
        )
    ]
    on_device(taught, known, vocabulary, work / "captions.int8.tflite")
    more, costs = device_rows(taught, work / "captions.int8.tflite", test, labels)
    note = (
        f"In percent, on {TESTED} scenes of {SECONDS:g} s mixed from {source.name} fold {FOLD}, learned from "
        f"{SCENES} of the other folds; {vocabulary.size} tokens; seed {SEED}, {date.today():%Y-%m-%d}."
    )
    text = "\n".join([*HEAD, *rows, *more, "", note + NOTE.replace("\n", " "), "", costs, ""])
    (RESULTS / "captions.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
