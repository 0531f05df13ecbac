"""Captions: vocabulary, CoNeTTE's constrained beam search, scenes with captions, and how right they are."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from boards.errors import UserError
from models.data import window
from models.data.clips import Dataset

Ids: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float32]
Score: TypeAlias = Callable[
    [Ids, NDArray[np.intp]], Floats
]  # tokens (n, i), clip of each (n,) -> (n, tokens)
Relation: TypeAlias = Literal["alone", "then", "while"]

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")  # in the official order
PAD, BOS, EOS, UNKNOWN = range(len(SPECIAL))
STOP_WORDS = frozenset(
    """
    a about above after again all an and any are as at be because been before being below between both
    but by can did do does doing down during each few for from further had has have having he her here
    him his how i if in into is it its itself just me more most my no nor not now of off on once only or
    other our out over own same she so some such than that the their them then there these they this
    those through to too under until up very was we were what when where which while who whom why will
    with you your
    """.split()  # noqa: SIM905  (a page of words reads better so)
)


@dataclass(frozen=True)
class Vocabulary:
    """Words and the tokens that stand for them; a task is a style, whose token begins the caption."""

    words: tuple[str, ...]
    tasks: tuple[str, ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """Return all tokens: the special ones, the words, and `<bos_task>` of every task."""
        return (*SPECIAL, *self.words, *(f"<bos_{task}>" for task in self.tasks))

    @property
    def size(self) -> int:
        """Return the number of tokens."""
        return len(SPECIAL) + len(self.words) + len(self.tasks)

    @property
    def once(self) -> NDArray[np.bool_]:
        """Return, shape (tokens,), which tokens may come once in a caption: all but stop words."""
        return np.array([token not in STOP_WORDS for token in self.tokens])

    def start(self, task: str) -> int:
        """Return the token that begins a caption of `task`.

        Raises:
            UserError: there is no such task; the message names the nearest.
        """
        if task not in self.tasks:
            near = difflib.get_close_matches(task, self.tasks, n=1, cutoff=0.0)
            raise UserError(f"no task {task!r}; did you mean {near[0]!r}?" if near else f"no task {task!r}")
        return len(SPECIAL) + len(self.words) + self.tasks.index(task)

    def encode(self, caption: str, task: str, length: int) -> Ids:
        """Return int32 (length + 1,): the task's token, the words, the end, and padding.

        Raises:
            UserError: the caption has more than `length` - 1 words.
        """
        places = {word: index for index, word in enumerate(self.words, len(SPECIAL))}
        ids = [self.start(task), *(places.get(word, UNKNOWN) for word in split(caption)), EOS]
        if len(ids) > length + 1:
            raise UserError(f"the caption {caption!r} has {len(ids) - 2} words, {length - 1} fit")
        return np.array(ids + [PAD] * (length + 1 - len(ids)), np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words up to the first end; `ids` may begin with a task's token."""
        found: list[str] = []
        for index in ids:
            if index == EOS:
                break
            if UNKNOWN <= index < len(SPECIAL) + len(self.words):
                found.append(self.tokens[index])
        return " ".join(found)


def split(caption: str) -> list[str]:
    """Return the words of a caption: lower case, punctuation left out."""
    return re.findall(r"[^\W_]+(?:['-][^\W_]+)*", caption.lower())


def vocabulary(captions: Iterable[str], tasks: Sequence[str]) -> Vocabulary:
    """Return the vocabulary of all words of `captions`, sorted."""
    return Vocabulary(tuple(sorted({word for caption in captions for word in split(caption)})), tuple(tasks))


@dataclass(frozen=True)
class Search:
    """Beam search as CoNeTTE does it: a beam that ends leaves the others to go on without it."""

    size: int = 3
    least: int = 3  # tokens before a caption may end
    most: int = 20


@dataclass
class Beam:
    """A finished caption: its tokens behind the start, the end included, and their mean log-probability."""

    tokens: tuple[int, ...]
    average: float


@dataclass
class _Live:
    """Captions that go on: of which clip, the tokens (n, i) with the start, the sums of log-probabilities."""

    owner: NDArray[np.intp]
    tokens: Ids
    total: NDArray[np.float64]
    finished: list[list[Beam]] = field(default_factory=list)


def beam_search(
    score: Score, starts: Sequence[int], once: NDArray[np.bool_], how: Search
) -> list[list[Beam]]:
    """Return the finished captions of every clip, the likeliest first.

    Args:
        score: gives the logits of the next token.
        starts: the token that begins the caption of each clip.
        once: the tokens that may not come twice in a caption.
        how: size and lengths.
    """
    count = len(starts)
    live = _Live(np.arange(count), np.array(starts, np.int32)[:, None], np.zeros(count), [[] for _ in starts])
    for step in range(how.most):
        logits = score(live.tokens, live.owner).astype(np.float64)
        if step < how.least:
            logits[:, EOS] = -np.inf
        used = np.zeros(logits.shape, bool)
        np.put_along_axis(used, live.tokens, True, axis=1)
        logits[used & once] = -np.inf
        live = _extended(live, live.total[:, None] + log_softmax(logits), step, how)
        if not live.owner.size:
            break
    return [sorted(beams, key=lambda beam: -beam.average) for beams in live.finished]


def _extended(live: _Live, totals: NDArray[np.float64], step: int, how: Search) -> _Live:
    width = totals.shape[1]
    parents, words, sums = [], [], []
    for clip in np.unique(live.owner):
        rows = np.flatnonzero(live.owner == clip)
        flat = totals[rows].ravel()
        best = np.argsort(-flat, kind="stable")[: how.size if step == 0 else len(rows)]
        parents.append(rows[best // width])
        words.append(best % width)
        sums.append(flat[best])
    parent, word, total = (np.concatenate(part) for part in (parents, words, sums))
    owner = live.owner[parent]
    tokens = np.concatenate([live.tokens[parent], word[:, None].astype(np.int32)], axis=1)
    ended = (word == EOS) | (step == how.most - 1)
    for row in np.flatnonzero(ended):
        found = Beam(tuple(int(token) for token in tokens[row, 1:]), float(total[row] / (step + 1)))
        live.finished[owner[row]].append(found)
    return _Live(owner[~ended], tokens[~ended], total[~ended], live.finished)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-probabilities along the last axis; a logit of -inf stays that."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


@dataclass(frozen=True)
class Scene:
    """What is to be heard: the labels in their order, and whether one follows the other or both sound."""

    relation: Relation
    labels: tuple[str, ...]


TASKS = ("sentence", "tags")
WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sentence": {"then": ("then", "before"), "while": ("while", "as")},
    "tags": {"then": ("then",), "while": ("with",)},
}
RELATIONS: Mapping[str, Relation] = {
    "then": "then",
    "before": "then",
    "while": "while",
    "as": "while",
    "with": "while",
}
CLAUSES = {
    "chainsaw": ("a chainsaw buzzes", "a chainsaw roars"),
    "clock_tick": ("a clock ticks", "a clock clicks"),
    "crackling_fire": ("a fire crackles", "a fire burns"),
    "crying_baby": ("a baby cries", "a baby wails"),
    "dog": ("a dog barks", "a dog yaps"),
    "helicopter": ("a helicopter flies", "a helicopter passes"),
    "rain": ("rain falls", "rain patters"),
    "rooster": ("a rooster crows", "a rooster calls"),
    "sea_waves": ("waves crash", "waves roll"),
    "sneezing": ("a person sneezes", "somebody sneezes"),
}  # the labels of ESC-10
LEVEL = 1_600.0  # RMS of each sound in a scene, of int16
LEVEL_DB = 3.0  # standard deviation of it


def clauses(label: str) -> tuple[str, ...]:
    """Return the wordings of a sound; a label that has none of its own sounds."""
    return CLAUSES.get(label, (f"the {label.replace('_', ' ')} sounds",))


def name(label: str) -> str:
    """Return the word that names a sound: the last but one of its clauses' words."""
    return split(clauses(label)[0])[-2]


def wordings(scene: Scene, task: str) -> tuple[str, ...]:
    """Return every caption that is right for `scene` in the style of `task`."""
    parts = [clauses(label) if task == "sentence" else (name(label),) for label in scene.labels]
    if scene.relation == "alone":
        return parts[0]
    words = WORDS[task][scene.relation]
    orders = [parts] if scene.relation == "then" else [parts, parts[::-1]]
    return tuple(f"{a} {word} {b}" for one, two in orders for a in one for word in words for b in two)


def understood(caption: str, labels: Sequence[str]) -> Scene:
    """Return the scene that a caption tells of: sounds by their names, in the order of naming."""
    names = {word: label for label in labels for word in {split(clause)[-2] for clause in clauses(label)}}
    words = split(caption)
    found = tuple(dict.fromkeys(names[word] for word in words if word in names))
    told = [RELATIONS[word] for word in words if word in RELATIONS]
    return Scene(told[0] if told else "alone", found)


def scenes(
    clips: Dataset, count: int, samples: int, rate: int, seed: int
) -> tuple[list[Scene], NDArray[np.int16]]:
    """Return `count` scenes mixed from labelled clips, and their sounds int16 (count, samples).

    One in five has one sound; of the others half follow each other, half overlap. Sounds are cut where they
    are loud and brought to one level.
    """
    rng = np.random.default_rng(seed)
    by_label = [np.flatnonzero(clips.classes == label) for label in range(len(clips.labels))]
    found, sounds = [], []
    heard = functools.cache(lambda index: clips.clips[index].samples(rate))
    for _ in range(count):
        relation: Relation = rng.choice(["alone", "then", "then", "while", "while"])
        chosen = rng.choice(np.unique(clips.classes), 1 + (relation != "alone"), replace=False)
        length = samples // 2 if relation == "then" else samples
        parts = [_levelled(heard(int(rng.choice(by_label[label]))), length, rng) for label in chosen]
        mixed = np.zeros(samples)
        for place, sound in enumerate(parts):
            start = place * length if relation == "then" else 0
            mixed[start : start + length] += sound
        found.append(Scene(relation, tuple(clips.labels[label] for label in chosen)))
        sounds.append(np.clip(np.rint(mixed), -32_768, 32_767).astype(np.int16))
    return found, np.stack(sounds)


def _levelled(samples: NDArray[np.int16], length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    part = window(samples, length, rng).astype(np.float64)
    level = max(1.0, float(np.sqrt(np.mean(part**2))))
    return part * (LEVEL / level * 10 ** (rng.normal(0, LEVEL_DB) / 20))


@dataclass(frozen=True)
class Marks:
    """How right captions are, as shares of all clips; see `marks`."""

    sounds: float
    order: float
    f1: float
    bleu: float


def marks(captions: Sequence[str], truth: Sequence[Scene], task: str, labels: Sequence[str]) -> Marks:
    """Return how right `captions` are.

    sounds: the set of sounds named is exactly the true one. order: that, and also whether they follow or
    overlap, and which comes first. f1: mean over clips of the harmonic mean of precision and recall of words
    (with their counts), against the nearest right wording. bleu: see `bleu`.
    """
    heard = [understood(caption, labels) for caption in captions]
    pairs = list(zip(heard, truth, strict=True))
    references = [[split(right) for right in wordings(scene, task)] for scene in truth]
    words = [split(caption) for caption in captions]
    return Marks(
        float(np.mean([set(a.labels) == set(b.labels) for a, b in pairs])),
        float(np.mean([same(a, b) for a, b in pairs])),
        float(np.mean([max(f1(w, r) for r in those) for w, those in zip(words, references, strict=True)])),
        bleu(words, references),
    )


def same(a: Scene, b: Scene) -> bool:
    """Tell whether two scenes are one: sounds that overlap have no order."""
    order = a.labels == b.labels if b.relation == "then" else sorted(a.labels) == sorted(b.labels)
    return a.relation == b.relation and order


def f1(words: Sequence[str], reference: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall of words, each counted as often as it comes."""
    common = (Counter(words) & Counter(reference)).total()
    return 2 * common / max(1, len(words) + len(reference))


def bleu(
    captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], most: int = 4
) -> float:
    """Return BLEU of the whole set (Papineni et al. 2002): the geometric mean of the precisions of 1- to
    `most`-grams, each counted at most as often as in one reference, times exp(1 - r / c) where the captions
    (c words) are shorter than the references nearest in length (r words).
    """
    logs = []
    for n in range(1, most + 1):
        right = total = 0
        for words, those in zip(captions, references, strict=True):
            allowed = Counter[tuple[str, ...]]()
            for reference in those:
                allowed |= _grams(reference, n)
            grams = _grams(words, n)
            right, total = right + (grams & allowed).total(), total + grams.total()
        if not right:
            return 0.0
        logs.append(math.log(right / total))
    length = sum(map(len, captions))
    nearest = sum(
        min((abs(len(r) - len(w)), len(r)) for r in those)[1]
        for w, those in zip(captions, references, strict=True)
    )
    return math.exp(sum(logs) / most + min(0.0, 1 - nearest / length))


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
