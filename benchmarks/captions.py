"""Captions of scenes mixed from ESC-10, from float to the board; writes results/captions.md.

`python -m benchmarks.captions ESC10_DIR WORK_DIR`: about nine minutes of one core; a net that WORK_DIR holds
is not learned again. The sounds that are tested come from fold 4, those that are learned from folds 1 to 3.
As in the paper, the encoder first learns to tag. From it MICRO learns captions with three seeds, alone, and
then anew on the next-token probabilities of those three together; one of the latter goes to the device, which
hears and speaks in one graph.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import date
from functools import partial
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
BOARD, SEEDS, FOLD, TASK = "virtual-m7", (0, 1, 2), "4", "sentence"
CONFIG = replace(conette.MICRO, seconds=2.0, max_frames=64)
SCENES, TESTED, ON_BOARD, CALIBRATED = 2_400, 200, 25, 200
VARIANTS = 4  # captions of a scene that are taken in turn, the last one in the style of tags
TAG_EPOCHS, EPOCHS, BATCH = 15, 16, 50
TAG_RATE, RATE = 8e-3, 5e-3
TAUGHT = 0.7  # share of the teacher's probabilities in what the student is asked for
SEARCH = Search(size=3, least=2, most=CONFIG.decoder.length)
GREEDY = replace(SEARCH, size=1, least=0)
HEAD = ("| captioner | sounds | order | token F1 | BLEU-4 |", "|---|---|---|---|---|")
NOTE = """
sounds: share of scenes whose set of sounds is named exactly; order: share where also the relation (one,
followed, overlapped) and the order are right; token F1: harmonic mean of precision and recall of words,
against the nearest right wording; BLEU-4: of the whole set, against all right wordings."""


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
    """Return `count` scenes of `clips`, as the front end of MICRO hears them."""
    front: Any = conette.frontend(CONFIG)
    truth, sounds = captions.scenes(clips, count, front.samples, front.sample_rate, seed)
    rng = np.random.default_rng(seed)
    tasks = (TASK,) * (VARIANTS - 1) + ("tags",)
    tokens = [
        [vocabulary.encode(str(rng.choice(captions.wordings(scene, t))), t, SEARCH.most) for t in tasks]
        for scene in truth
    ]
    return Scenes(truth, np.stack([frontend.features(sound, front) for sound in sounds]), np.array(tokens))


def kept(path: Path, net: Any, learn: Callable[[Any], None]) -> Any:
    """Return `net` with the weights of `path`, or where there are none, with those that `learn` gives it."""
    if path.is_file():
        net.load_weights(path)
    else:
        learn(net)
        net.save_weights(path)
    return net


def epochs(scenes: Scenes, count: int, seed: int) -> Iterator[tuple[int, NDArray[Any], NDArray[np.float32]]]:
    """Yield for each epoch its number, the order of the scenes, and their coloured features in it."""
    for epoch in range(count):
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(scenes.truth))
        yield epoch, order, colour(scenes.x, conette.COLOUR, rng)[order]


def ready(net: Any, loss: Any, rate: float, steps: int) -> None:
    """Compile `net` for so many steps."""
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=rate, warmup_steps=steps // 10
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=5.0)
    net.compile(optimizer, loss, **train.compile_options())


def tag(net: Any, scenes: Scenes, labels: Sequence[str]) -> None:
    """Teach `net` which sounds a scene has."""
    train.adapt(net, scenes.x)
    wanted = np.array([[label in scene.labels for label in labels] for scene in scenes.truth], np.float32)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    ready(net, loss, TAG_RATE, TAG_EPOCHS * len(wanted) // BATCH)
    for _, order, x in epochs(scenes, TAG_EPOCHS, SEEDS[0]):
        net.fit(x, wanted[order], BATCH, shuffle=False, verbose=0)


def tell(net: Any, scenes: Scenes, encoder: Any, seed: int, teacher: NDArray[Any] | None = None) -> None:
    """Teach `net`, which begins with the weights of `encoder`, captions; `teacher`: see `probabilities`."""
    conette.hand_over(encoder, net)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    ready(net, loss, RATE, EPOCHS * len(scenes.truth) // BATCH)
    size, smooth = net.output_shape[-1], CONFIG.learning.label_smoothing
    hot = np.eye(size, dtype=np.float32) * (1 - smooth) + smooth / size
    for epoch, order, x in epochs(scenes, EPOCHS, seed):
        variant = epoch % VARIANTS
        tokens = scenes.tokens[order, variant]
        wanted = hot[tokens[:, 1:]]
        if teacher is not None:
            wanted = (1 - TAUGHT) * wanted + TAUGHT * teacher[order, variant]
        counted = (tokens[:, 1:] != captions.PAD).astype(np.float32)
        net.fit([x, tokens[:, :-1]], wanted, BATCH, sample_weight=counted, shuffle=False, verbose=0)


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


def line(name: str, every: Sequence[Sequence[str]], truth: Sequence[Scene], labels: Sequence[str]) -> str:
    """Return a row of the table: the mean of the marks of `every` captioner, ± their standard deviation."""
    marks = [astuple(captions.marks(one, truth[: len(one)], TASK, labels)) for one in every]
    mean, spread = 100 * np.mean(marks, axis=0), 100 * np.std(marks, axis=0)
    cells = [
        f"{m:.1f} ± {s:.1f}" if len(every) > 1 else f"{m:.1f}" for m, s in zip(mean, spread, strict=True)
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def on_device(net: Any, scenes: Scenes, vocabulary: captions.Vocabulary, model: Path) -> None:
    """Write the captioner as one int8 net that decodes by itself, calibrated on `scenes`."""
    calibration = scenes.x[:CALIBRATED]
    bound = float(np.abs(ops.convert_to_numpy(net([calibration, scenes.tokens[:CALIBRATED, 0, :-1]]))).max())
    greedy = conette.greedy(CONFIG, vocabulary, TASK, 1.1 * bound)
    conette.hand_over(net, greedy)
    with tempfile.TemporaryDirectory() as folder:
        export.float_tflite(greedy, Path(folder) / "float.tflite")
        model.write_bytes(int8.quantise((Path(folder) / "float.tflite").read_bytes(), calibration))


def device_rows(
    exact: Sequence[str], model: Path, test: Scenes, vocabulary: captions.Vocabulary, labels: Sequence[str]
) -> tuple[list[str], str]:
    """Return the rows of the int8 net on the host and on the board, and what it costs there.

    `exact` are the captions of the float net.
    """
    made = build.compile_model(
        model.read_bytes(), boards.load(BOARD), model.with_suffix(".build"), name="captions"
    )
    inputs = profile.as_input(test.values, made.window)[:, 0]

    def decoded(rows: NDArray[Any]) -> list[str]:
        return [vocabulary.decode(one.argmax(axis=-1)) for one in rows.reshape(len(rows), SEARCH.most, -1)]

    host = decoded(profile.on_host(made.window, inputs))
    with device.open(made, None) as board:
        trial = profile.feed(made, board, inputs[:ON_BOARD])
        counted = profile.count(board, trial, None)
    few = f"first {ON_BOARD}"
    rows = [
        line("int8, greedy, host", [host], test.truth, labels),
        line(f"float, greedy, {few}", [exact[:ON_BOARD]], test.truth, labels),
        line(f"int8, greedy, {BOARD}, {few}", [decoded(trial.device)], test.truth, labels),
    ]
    same = sum(a == b for a, b in zip(exact, host, strict=True))
    flash, ram = made.sizes["flash_bytes"], made.sizes["ram_bytes"]
    return rows, (
        f"The device (encoder, decoder and greedy choice in one int8 graph, {CONFIG.seconds:g} s of features "
        f"to {SEARCH.most} tokens): {made.sizes['macs']:,} MACs, {counted.total:,} instructions (emulated) "
        f"without the front end, {counted.total / CONFIG.seconds:,.0f} per second of sound, weights "
        f"{flash['weights']:,} bytes, flash {flash['total']:,}, RAM {ram['total']:,}. int8 tells the caption "
        f"of float in {same} of {len(host)} scenes; board and host differ in {int(trial.wrong.sum())} of "
        f"{len(trial.wrong)}."
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
    known, test = (
        mixed(side, n, vocabulary, i) for i, (side, n) in enumerate(zip(sides, (SCENES, TESTED), strict=True))
    )
    encoder = kept(
        work / "tagger.weights.h5",
        train.seeded(lambda: conette.net(CONFIG, len(labels)), SEEDS[0]),
        partial(tag, scenes=known, labels=labels),
    )

    def learned(name: str, teacher: NDArray[Any] | None = None) -> list[Any]:
        return [
            kept(
                work / f"{name}-{seed}.weights.h5",
                train.seeded(lambda: conette.captioner(CONFIG, vocabulary.size), seed),
                partial(tell, scenes=known, encoder=encoder, seed=seed, teacher=teacher),
            )
            for seed in SEEDS
        ]

    alone = learned("alone")
    taught = learned("taught", np.mean([probabilities(net, known) for net in alone], axis=0))
    exact = told(taught[0], test.x, vocabulary, GREEDY)
    rows = [
        line(name, every, test.truth, labels)
        for name, every in (
            (
                "from scratch, beam of 3, three seeds",
                [told(net, test.x, vocabulary, SEARCH) for net in alone],
            ),
            ("distilled, beam of 3, three seeds", [told(net, test.x, vocabulary, SEARCH) for net in taught]),
            ("distilled, greedy, one seed: float", [exact]),
        )
    ]
    model = work / "captions.int8.tflite"
    on_device(taught[0], known, vocabulary, model)
    more, costs = device_rows(exact, model, test, vocabulary, labels)
    note = (
        f"CoNeTTE MICRO, {cost.parameters(taught[0]):,} parameters, {vocabulary.size} tokens. In percent (± "
        f"standard deviation of seeds), on {TESTED} scenes of {CONFIG.seconds:g} s mixed from ESC-10 fold "
        f"{FOLD}, learned from {SCENES:,} of the other folds; all begin with one encoder that learned to tag "
        f"these; distilled: from the three together; {date.today():%Y-%m-%d}."
    )
    text = "\n".join([*HEAD, *rows, *more, "", note + NOTE.replace("\n", " "), "", costs, ""])
    (RESULTS / "captions.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
