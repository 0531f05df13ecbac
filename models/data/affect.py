"""A set with targets: speech-like sounds whose effort, pitch, melody and pace are drawn; made by the kit.

The targets are like the arousal, dominance and valence of speech emotion data, in -1…1, but they are computed
from how each sound was made; nobody felt or rated anything. With effort, pitch, melody, pace and smile each
uniform in -1…1:

arousal = 0.5 effort + 0.3 pace + 0.2 pitch;  dominance = 0.6 effort - 0.4 pitch;
valence = 0.7 melody + 0.3 smile.

Effort flattens the voice's spectrum and hushes its breath, pitch moves it within the speaker's range, melody
widens its accents, pace brings more syllables a second, smile shortens the vocal tract. What makes it hard:
every speaker's own pitch, vocal tract and voice hide part of that, rooms and their noise the rest, and the
level says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from boards.errors import UserError
from models.data import audio
from models.data.augment import Float
from models.data.clips import Clip, Dataset, Samples
from models.data.synthetic import ROOMS, chances, recorded, room_of

VERSION = 1  # raise it whenever a sound or a target changes: data hashes follow
TARGETS = ("arousal", "dominance", "valence")
SPEAKERS = 24
FOLDS = 4  # speaker number % FOLDS
CLIPS_PER_SPEAKER = 40
RATE = 16_000
SECONDS = 2.0
VOWELS = ((300, 870, 2240), (270, 2290, 3010), (530, 1840, 2480), (730, 1090, 2440), (490, 1350, 1690))
WIDTHS = (80.0, 110.0, 170.0)  # Hz, of the resonances


@dataclass(frozen=True)
class Speaker:
    """Who speaks."""

    pitch: float  # Hz, of the middle of the range
    tract: float  # factor of all resonances
    tilt: float  # dB an octave that the spectrum falls more, or less, than others'
    breath: float


@dataclass(frozen=True)
class Manner:
    """How a clip is spoken; each in -1…1."""

    effort: float
    pitch: float
    melody: float
    pace: float
    smile: float

    @property
    def targets(self) -> tuple[float, ...]:
        """Return arousal, dominance and valence by the formula above."""
        arousal = 0.5 * self.effort + 0.3 * self.pace + 0.2 * self.pitch
        dominance = 0.6 * self.effort - 0.4 * self.pitch
        return arousal, dominance, 0.7 * self.melody + 0.3 * self.smile


def make(seed: int = 0, clips_per_speaker: int = CLIPS_PER_SPEAKER) -> Dataset:
    """Return the set; its clips are made when asked for, the same for the same arguments on every machine.

    Groups are speakers, folds are sixes of them; a split tests on speakers never heard in training.

    Raises:
        UserError: a number of clips that makes no set.
    """
    if not 1 <= clips_per_speaker <= 100_000:
        raise UserError(f"synthetic-affect: {clips_per_speaker} clips a speaker: 1…100,000 are possible")
    clips = tuple(
        Clip(
            name=f"speaker-{speaker:02d}/{number:05d}",
            label=0,
            group=f"speaker-{speaker:02d}",
            fold=str(1 + speaker % FOLDS),
            read=partial(_read, seed, speaker, number),
            values=manner(seed, speaker, number).targets,
        )
        for speaker in range(SPEAKERS)
        for number in range(clips_per_speaker)
    )
    return Dataset(f"synthetic-affect v{VERSION}, seed {seed}", TARGETS, clips)


def manner(seed: int, speaker: int, number: int) -> Manner:
    """Return how a clip is spoken."""
    return Manner(*chances("manner", VERSION, seed, speaker, number).uniform(-1.0, 1.0, 5).tolist())


def voice(how: Manner, who: Speaker, n: int, rate: int, rng: np.random.Generator) -> Float:
    """Return n samples of a voice that says syllables."""
    pace = 4.2 * 1.55**how.pace  # syllables a second
    starts = np.cumsum(rng.uniform(0.75, 1.25, int(2 * pace * n / rate) + 4)) / pace - rng.uniform(0.2, 1.0)
    accents = 2.0 ** (0.3 * (1.0 + how.melody) * rng.normal(0.0, 0.55, starts.size))
    time = np.arange(n) / rate
    declination = 2.0 ** (-0.12 * time)
    pitch = who.pitch * 2.0 ** (0.4 * how.pitch) * declination * np.interp(time, starts, accents)
    loud, out = np.zeros(n), np.zeros(n)
    source = _source(pitch, how.effort, who, rate, rng)
    for start in starts:
        first, length = int(start * rate), int(rate / pace * rng.uniform(0.6, 0.85))
        place = slice(max(0, first), min(n, first + length))
        if place.stop <= place.start:
            continue
        rise = (np.arange(place.start, place.stop) - first + 0.5) / length
        loud[place] = np.sin(np.pi * rise) ** 0.7 * rng.uniform(0.6, 1.0)
        vowel = VOWELS[int(rng.integers(len(VOWELS)))]
        tract = who.tract * 1.1**how.smile
        out[place] += _formed(source[place] * loud[place], [tract * hz for hz in vowel], rate)
    return out


def _source(pitch: Float, effort: float, who: Speaker, rate: int, rng: np.random.Generator) -> Float:
    """Return the voice before the mouth: harmonics that fall by 12 dB an octave in a murmur, 4 in a shout."""
    fall = 8.0 - 4.0 * effort + who.tilt
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.01 * rng.normal(size=pitch.size))) / rate
    out = np.zeros(pitch.size)
    for k in range(1, int(0.45 * rate / float(pitch.min())) + 1):
        audible = pitch * k < 0.45 * rate
        out += np.sin(k * phase) * audible * k ** (-fall / 6.02)
    breath = who.breath * 2.0 ** (-1.5 * effort) * 0.08
    return out + breath * rng.standard_normal(pitch.size)


def _formed(x: Float, centres: list[float], rate: int) -> Float:
    """Return x through the resonances of a vowel, in the frequency domain."""
    size = 1 << max(8, (x.size - 1).bit_length())
    hz = np.arange(size // 2 + 1) * rate / size
    response = np.full(hz.size, 0.05)
    for centre, width, strength in zip(centres, WIDTHS, (1.0, 0.6, 0.35), strict=True):
        response = response + strength / np.sqrt(1.0 + ((hz - centre) / width) ** 2)
    return np.fft.irfft(np.fft.rfft(x, size) * response, size)[: x.size]


def _speaker(seed: int, number: int) -> Speaker:
    rng = chances("speaker", VERSION, seed, number)
    return Speaker(
        pitch=100.0 * 2.2 ** rng.random(),
        tract=rng.uniform(0.88, 1.16),
        tilt=rng.normal(0.0, 0.8),
        breath=rng.uniform(0.3, 1.5),
    )


def _read(seed: int, speaker: int, number: int, rate: int) -> Samples:
    rng = chances("voice", VERSION, seed, speaker, number)
    room = room_of(seed, int(rng.integers(ROOMS)))
    dry = voice(manner(seed, speaker, number), _speaker(seed, speaker), int(SECONDS * RATE), RATE, rng)
    return audio.resampled(recorded(dry, RATE, room, rng), RATE, rate)
