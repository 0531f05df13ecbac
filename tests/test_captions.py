"""Vocabulary, beam search and its constraints, scenes and their captions, and how captions are marked."""

from __future__ import annotations

import itertools
from math import exp, log

import numpy as np
import pytest

from boards.errors import UserError
from models import captions
from models.captions import Scene, Search
from models.data import synthetic
from models.data.clips import Clip, Dataset

LABELS = tuple(captions.CLAUSES)
WORDS = captions.vocabulary(["a dog barks", "rain falls then a dog yaps"], ["sentence", "tags"])


def test_words_become_tokens_and_words_again() -> None:
    assert WORDS.words == ("a", "barks", "dog", "falls", "rain", "then", "yaps")
    assert WORDS.tokens[:4] == ("<pad>", "<bos>", "<eos>", "<unk>")
    ids = WORDS.encode("A dog, barks!", "tags", 6)
    np.testing.assert_array_equal(ids, [WORDS.start("tags"), 4, 6, 5, captions.EOS, 0, 0])
    assert WORDS.decode(ids) == "a dog barks"
    assert WORDS.decode([4, 6, captions.EOS, 8]) == "a dog"
    assert WORDS.decode(WORDS.encode("a cat barks", "sentence", 6)) == "a <unk> barks"
    assert WORDS.size == len(WORDS.tokens) == WORDS.start("tags") + 1


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(UserError, match="no task 'tag'; did you mean 'tags'"):
        WORDS.start("tag")
    with pytest.raises(UserError, match="has 3 words, 2 fit"):
        WORDS.encode("a dog barks", "tags", 3)


def test_only_words_with_content_may_come_once() -> None:
    once = dict(zip(WORDS.tokens, WORDS.once, strict=True))
    assert not once["a"]
    assert not once["then"]
    assert once["dog"]


def best_by_trying(table: np.ndarray, once: np.ndarray, how: Search) -> tuple[int, ...]:
    """Return the caption of the highest mean log-probability of all that the rules allow."""
    size, found = table.shape[-1], {}
    for length in range(1, how.most + 1):
        for words in itertools.product(range(size), repeat=length):
            if captions.EOS in words[:-1] or (words[-1] != captions.EOS and length < how.most):
                continue
            total, last, used = 0.0, 0, {0}
            for step, word in enumerate(words):
                logits = table[last].copy()
                logits[[w for w in used if once[w]]] = -np.inf
                if step < how.least:
                    logits[captions.EOS] = -np.inf
                total += captions.log_softmax(logits)[word]
                last, used = word, used | {word}
            found[words] = total / length
    return max(found, key=lambda words: found[words])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("least", "content"), [(0, ()), (2, (1, 3)), (3, (1, 3, 4))])
def test_a_wide_beam_finds_the_best_caption(seed: int, least: int, content: tuple[int, ...]) -> None:
    """A beam as wide as all captions, against every caption there is; the model is a table of word pairs."""
    table = np.random.default_rng(seed).normal(0, 2, (5, 5))
    once = np.isin(np.arange(5), content)
    how = Search(size=600, least=least, most=4)
    score = lambda tokens, clips: table[tokens[:, -1]].astype(np.float32)  # noqa: E731
    (beams,) = captions.beam_search(score, [0], once, how)
    assert beams[0].tokens == best_by_trying(table.astype(np.float32).astype(np.float64), once, how)
    for beam in beams:
        if np.isfinite(beam.average):
            assert len(beam.tokens) > least or len(beam.tokens) == how.most
            assert all(beam.tokens.count(word) <= 1 for word in content)


def test_a_narrow_beam_serves_every_clip_by_itself() -> None:
    tables = np.random.default_rng(7).normal(0, 2, (3, 6, 6)).astype(np.float32)
    score = lambda tokens, clips: tables[clips, tokens[:, -1]]  # noqa: E731
    how, once = Search(size=2, least=1, most=5), np.arange(6) > 3
    together = captions.beam_search(score, [0, 0, 1], once, how)
    for clip, start in enumerate([0, 0, 1]):
        alone = lambda tokens, clips, clip=clip: tables[clip, tokens[:, -1]]  # noqa: E731
        assert captions.beam_search(alone, [start], once, how)[0] == together[clip]


@pytest.mark.parametrize("task", captions.TASKS)
@pytest.mark.parametrize("relation", ["alone", "then", "while"])
def test_a_caption_tells_its_scene(task: str, relation: captions.Relation) -> None:
    for pair in itertools.permutations(LABELS, 1 if relation == "alone" else 2):
        scene = Scene(relation, pair)
        right = captions.wordings(scene, task)
        assert len(set(right)) == len(right)
        assert all(captions.same(captions.understood(caption, LABELS), scene) for caption in right)
        assert max(len(captions.split(caption)) for caption in right) <= 7


def test_wordings_by_hand() -> None:
    assert captions.wordings(Scene("then", ("dog", "rain")), "tags") == ("dog then rain",)
    assert "a dog barks before rain patters" in captions.wordings(Scene("then", ("dog", "rain")), "sentence")
    assert "rain falls while a dog yaps" in captions.wordings(Scene("while", ("dog", "rain")), "sentence")
    assert captions.wordings(Scene("alone", ("door_bell",)), "sentence") == ("the door bell sounds",)


def test_marks_by_hand() -> None:
    truth = [Scene("then", ("dog", "rain")), Scene("while", ("dog", "rain")), Scene("alone", ("rooster",))]
    right = ["a dog barks then rain falls", "rain falls while a dog barks", "a rooster crows"]
    assert captions.marks(right, truth, "sentence", LABELS) == captions.Marks(1.0, 1.0, 1.0, 1.0)
    wrong = ["rain falls then a dog barks", "rain falls then a dog barks", "a dog crows"]
    found = captions.marks(wrong, truth, "sentence", LABELS)
    assert (found.sounds, found.order) == pytest.approx((2 / 3, 0))
    assert found.f1 == pytest.approx((1 + 5 / 6 + 2 / 3) / 3)
    assert found.bleu == 0  # no four words in a row are right
    assert captions.marks(["", "", ""], truth, "sentence", LABELS).f1 == 0


def test_bleu_by_hand() -> None:
    """One caption of five words: 4 of 5 words right, 2 of 4 pairs, 1 of 3 triples, no more looked at."""
    given, reference = ["a", "dog", "barks", "while", "rain"], ["a", "dog", "barks", "then", "rain", "falls"]
    wanted = exp((log(4 / 5) + log(2 / 4) + log(1 / 3)) / 3 + 1 - 6 / 5)
    assert captions.bleu([given], [[reference]], most=3) == pytest.approx(wanted)
    assert captions.bleu([given], [[reference]]) == 0


def sines() -> Dataset:
    """Return two classes: a low and a high tone."""
    hertz = (300, 3_000)
    clips = tuple(
        Clip(f"{label}-{n}", label, f"{label}-{n}", lambda rate, label=label: tone(hertz[label], rate))
        for label in (0, 1)
        for n in range(2)
    )
    return Dataset("tones", ("dog", "rain"), clips)


def tone(hertz: int, rate: int) -> np.ndarray:
    return np.rint(8_000 * np.sin(2 * np.pi * hertz * np.arange(2 * rate) / rate)).astype(np.int16)


def test_scenes_sound_as_they_say() -> None:
    rate, samples = 16_000, 16_000
    found, sounds = captions.scenes(sines(), 40, samples, rate, 3)
    again, same = captions.scenes(sines(), 40, samples, rate, 3)
    assert found == again
    np.testing.assert_array_equal(sounds, same)
    assert {scene.relation for scene in found} == {"alone", "then", "while"}
    for scene, sound in zip(found, sounds, strict=True):
        for half, part in enumerate((sound[: samples // 2], sound[samples // 2 :])):
            power = np.abs(np.fft.rfft(part.astype(float))) ** 2
            loud = {"dog": power[130:170].sum(), "rain": power[1_480:1_520].sum()}
            heard = {label for label, value in loud.items() if value > 0.05 * sum(loud.values())}
            assert heard == ({scene.labels[half]} if scene.relation == "then" else set(scene.labels))
            assert 0.3 < np.sqrt(np.mean(part.astype(float) ** 2)) / captions.LEVEL < 4


def test_scenes_of_any_data_set_have_captions() -> None:
    clips = synthetic.make(0, 2)
    found, _ = captions.scenes(clips, 20, 8_000, 16_000, 0)
    for scene in found:
        caption = captions.wordings(scene, "sentence")[0]
        assert captions.same(captions.understood(caption, clips.labels), scene)
