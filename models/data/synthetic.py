"""The built-in set: thirteen classes of procedurally made sounds in noisy, reverberant rooms; no download."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from boards.errors import UserError
from models.data import audio
from models.data.augment import Float, add_noise, coloured, convolve, rms, room_response, to_int16
from models.data.clips import Clip, Dataset, Samples

VERSION = 1  # raise it whenever a sound changes: data hashes follow
CLIPS_PER_CLASS = 120
ROOMS = 20
SNR_DB = (-6.0, 18.0)
LEVEL_DB = (-38.0, -14.0)  # of the whole clip (RMS), against full scale
Maker = Callable[[int, int, np.random.Generator], Float]  # samples, rate, chances -> the dry sound


@dataclass(frozen=True)
class Room:
    """Where a clip was "recorded": reverberation, microphone and noise."""

    rt60: float  # seconds
    direct_db: float
    tilt: float  # of the microphone, power ~ f^tilt
    exponent: float  # of the noise, power ~ 1/f^exponent
    hum_hz: float  # 0: none
    gusts: float  # depth of the noise's slow swell, 0…1


@dataclass(frozen=True)
class Event:
    """One sound of a scene."""

    label: str
    start: float  # seconds
    end: float


def make(
    seed: int = 0, clips_per_class: int = CLIPS_PER_CLASS, rate: int = 16_000, seconds: float = 1.0
) -> Dataset:
    """Return the set; its clips are made when asked for, the same for the same arguments on every machine.

    Groups and folds are rooms (`room-00` …), so that a split tests on rooms never heard in training.

    Raises:
        UserError: a number of clips, rate or length that makes no set.
    """
    if not 1 <= clips_per_class <= 100_000 or not 8_000 <= rate <= 96_000 or not 0.5 <= seconds <= 60.0:
        raise UserError(
            f"synthetic: {clips_per_class} clips of {seconds:g} s at {rate} Hz: "
            "1…100,000 clips a class, 0.5…60 s, 8,000…96,000 Hz are possible"
        )
    labels = tuple(sorted(SOUNDS))
    clips = tuple(
        Clip(
            name=f"{label}/{number:05d}",
            label=index,
            group=f"room-{number % ROOMS:02d}",
            fold=f"room-{number % ROOMS:02d}",
            read=partial(_read, seed, label, number, rate, seconds),
        )
        for index, label in enumerate(labels)
        for number in range(clips_per_class)
    )
    return Dataset(f"synthetic v{VERSION}, seed {seed}, {rate} Hz, {seconds:g} s", labels, clips)


def scene(
    seed: int, events: int = 8, rate: int = 16_000, room: int = ROOMS, gap: float = 1.0
) -> tuple[Samples, tuple[Event, ...]]:
    """Return one long recording, int16, of different sounds in a room, and what sounds when.

    Sounds last 1 s with `gap` seconds of the room's noise before, between and after them. The default
    room is in no data set of `make`.
    """
    rng = chances("scene", seed)
    place = room_of(seed, room)
    names = [name for name in sorted(SOUNDS) if name != "background"]
    order = [names[i % len(names)] for i in rng.permutation(max(events, len(names)))[:events]]
    step = int(rate * (1.0 + gap))
    dry = np.zeros(step * events + int(rate * gap))
    truth = []
    for i, label in enumerate(order):
        start = int(rate * gap) + i * step
        sound = SOUNDS[label](rate, rate, rng)
        dry[start : start + rate] += sound / max(rms(sound), 1e-9)
        truth.append(Event(label, start / rate, start / rate + 1.0))
    wet = convolve(dry, room_response(rate, place.rt60, place.direct_db, rng))
    mixed = add_noise(wet, room_noise(dry.size, rate, place, rng), 12.0)
    return to_int16(mixed * (10 ** (-20.0 / 20.0) * 32_768 / rms(mixed))), tuple(truth)


def _read(seed: int, label: str, number: int, made_rate: int, seconds: float, rate: int) -> Samples:
    return audio.resampled(_clip(seed, label, number, made_rate, seconds), made_rate, rate)


def _clip(seed: int, label: str, number: int, rate: int, seconds: float) -> Samples:
    """Make one clip: the dry sound, its room, the room's noise, a level."""
    n = round(rate * seconds)
    rng = chances("clip", seed, label, number)
    room = room_of(seed, number % ROOMS)
    return recorded(SOUNDS[label](n, rate, rng), rate, room, rng)


def recorded(dry: Float, rate: int, room: Room, rng: np.random.Generator) -> Samples:
    """Return a dry sound as a microphone in `room` takes it: int16, with the room's noise, at some level."""
    wet = convolve(dry, room_response(rate, room.rt60, room.direct_db + rng.uniform(-3.0, 3.0), rng))
    noise = room_noise(dry.size, rate, room, rng)
    mixed = add_noise(wet, noise, rng.uniform(*SNR_DB)) if rms(wet) else noise
    tilted = shaped(mixed, rate, 200.0, 0.48 * rate, room.tilt)
    return to_int16(tilted * (10 ** (rng.uniform(*LEVEL_DB) / 20.0) * 32_768 / max(rms(tilted), 1e-9)))


def chances(*key: object) -> np.random.Generator:
    """Return the random numbers that belong to `key`, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, ("earkit", VERSION, *key))).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def room_of(seed: int, number: int) -> Room:
    """Return a room of the set."""
    rng = chances("room", seed, number)
    return Room(
        rt60=rng.uniform(0.12, 0.8),
        direct_db=rng.uniform(0.0, 12.0),
        tilt=rng.uniform(-0.6, 0.6),
        exponent=rng.uniform(0.0, 1.8),
        hum_hz=float(rng.choice((0.0, 50.0, 60.0, 100.0, 120.0))),
        gusts=rng.uniform(0.0, 0.8),
    )


def room_noise(n: int, rate: int, room: Room, rng: np.random.Generator) -> Float:
    """Return n samples of what a room sounds like when nothing happens."""
    time = np.arange(n) / rate
    swell = 1.0 + room.gusts * np.sin(2 * np.pi * (rng.uniform(0.3, 2.0) * time + rng.random()))
    noise = coloured(n, room.exponent, rng) * swell
    if room.hum_hz:
        noise += sum(
            0.4 / k * np.sin(2 * np.pi * (k * room.hum_hz * time + rng.random())) for k in (1, 2, 3, 5)
        )
    return noise


# What sounds are made of.


def _tone(frequency: Float, rate: int) -> Float:
    return np.sin(2 * np.pi * np.cumsum(frequency) / rate)


def shaped(x: Float, rate: int, low: float, high: float, tilt: float = 0.0) -> Float:
    """Return x, falling at 24 dB an octave outside low…high Hz, its power tilted by f^tilt."""
    spectrum = np.fft.rfft(x)
    hz = np.maximum(np.arange(spectrum.size) * rate / x.size, 10.0)
    response = (
        1.0 / np.sqrt((1.0 + (low / hz) ** 8) * (1.0 + (hz / high) ** 8)) * (hz / 1_000.0) ** (tilt / 2.0)
    )
    return np.fft.irfft(spectrum * response, x.size)


def _span(n: int, rng: np.random.Generator, shortest: float, longest: float) -> tuple[int, int]:
    """Return start and length of an event of that share of n, anywhere inside."""
    length = int(n * rng.uniform(shortest, longest))
    return int(rng.integers(n - length + 1)), length


def _swell(length: int, attack: float, release: float) -> Float:
    """Return a smooth envelope; attack and release are shares of the length."""
    place = (np.arange(length) + 0.5) / length
    edge = np.minimum(np.minimum(place / attack, (1.0 - place) / release), 1.0)
    return np.sin(np.pi / 2 * edge) ** 2


def _glide(n: int, rate: int, rng: np.random.Generator, up: bool) -> Float:
    start, length = _span(n, rng, 0.25, 0.85)
    low = 700.0 * 4.0 ** rng.random()
    ratio = rng.uniform(1.12, 1.9)
    place = np.linspace(0.0, 1.0, length) ** rng.uniform(0.6, 1.6)
    wobble = 1.0 + rng.uniform(0.0, 0.02) * np.sin(2 * np.pi * rng.uniform(4, 9) * np.arange(length) / rate)
    out = np.zeros(n)
    frequency = low * ratio ** (place if up else 1.0 - place) * wobble
    breath = rng.uniform(0.0, 0.3) * rng.standard_normal(length)
    out[start : start + length] = (_tone(frequency, rate) + breath) * _swell(length, 0.15, 0.25)
    return out


def _siren(n: int, rate: int, rng: np.random.Generator) -> Float:
    time = np.arange(n) / rate
    cycle = rng.uniform(0.9, 3.0) * time + rng.random()
    wave = np.sin(2 * np.pi * cycle) if rng.random() < 0.5 else 4 * np.abs(cycle % 1.0 - 0.5) - 1.0
    frequency = rng.uniform(600, 1_900) * rng.uniform(1.15, 1.5) ** wave
    return (
        _tone(frequency, rate)
        + rng.uniform(0, 0.5) * _tone(2 * frequency, rate)
        + 0.2 * _tone(3 * frequency, rate)
    )


def _alarm(n: int, rate: int, rng: np.random.Generator) -> Float:
    time = np.arange(n) / rate
    place = (rng.uniform(2.5, 8.0) * time + rng.random()) % 1.0
    low = 800.0 * 3.5 ** rng.random()
    other = (
        rng.choice((0.0, 1.0)) * rng.uniform(0.75, 1.3) * low
    )  # 0: one beep on and off; else two tones in turn
    on = place < rng.uniform(0.4, 0.6)
    frequency = np.where(on, low, other)
    tone = _tone(frequency, rate) + rng.uniform(0.0, 0.5) * _tone(3 * frequency, rate)
    return tone * np.where(on, 1.0, float(other > 0))


def _bark(n: int, rate: int, rng: np.random.Generator) -> Float:
    out = np.zeros(n)
    pitch, formant = rng.uniform(250, 750), rng.uniform(700, 1_800)
    for _ in range(int(rng.integers(1, 4))):
        start, length = _span(n, rng, 0.08, 0.22)
        place = np.linspace(0.0, 1.0, length)
        frequency = (
            pitch * (0.75 + 0.5 * np.sin(np.pi * place) ** rng.uniform(0.7, 1.5)) * rng.uniform(0.9, 1.1)
        )
        voice = sum(_tone(k * frequency, rate) / k**0.7 for k in range(1, 7)) + rng.uniform(
            0.5, 1.5
        ) * rng.standard_normal(length)
        out[start : start + length] += voice * _swell(length, 0.12, 0.6)
    return shaped(out, rate, 0.5 * formant, 1.8 * formant)


def _bell(n: int, rate: int, rng: np.random.Generator) -> Float:
    start, _ = _span(n, rng, 0.5, 0.9)
    time = np.arange(n - start) / rate
    base, ring = 350.0 * 5.0 ** rng.random(), rng.uniform(0.12, 0.7)
    ratios = np.array([0.5, 1.0, 1.2, 1.51, 2.0, 2.67, 3.01, 4.17]) * rng.uniform(0.97, 1.03, 8)
    strengths = rng.uniform(0.2, 1.0, 8)
    out = np.zeros(n)
    for ratio, strength in zip(ratios[ratios * base < 0.45 * rate], strengths, strict=False):
        out[start:] += (
            strength * np.sin(2 * np.pi * ratio * base * time) * np.exp(-time / (ring / ratio**0.6))
        )
    return out


def _chirp(n: int, rate: int, rng: np.random.Generator) -> Float:
    out = np.zeros(n)
    base, length = 1_400.0 * 3.0 ** rng.random(), int(rate * rng.uniform(0.03, 0.11))
    bend, gap = rng.uniform(0.7, 1.5), int(rate * rng.uniform(0.05, 0.16))
    start, place = int(rng.integers(n // 3)), np.linspace(0.0, 1.0, length)
    for _ in range(int(rng.integers(2, 7))):
        if start + length > n:
            break
        frequency = base * rng.uniform(0.93, 1.07) * bend ** np.sin(np.pi * place * rng.choice((0.5, 1.0)))
        out[start : start + length] += _tone(frequency, rate) * _swell(length, 0.3, 0.4)
        start += length + gap
    return out


def _strikes(n: int, rate: int, rng: np.random.Generator, hz: float, decay: float, uneven: float) -> Float:
    """Return decaying noise bursts, `hz` a second, every one a little off its time and level."""
    out = np.zeros(n)
    length = min(n, int(rate * decay * 6))
    start = rng.uniform(0.0, 0.6 / hz)
    while start * rate < n - length // 4:
        at = int(start * rate)
        burst = (
            rng.standard_normal(length) * np.exp(-np.arange(length) / (decay * rate)) * rng.uniform(0.5, 1.0)
        )
        out[at : at + length] += burst[: n - at]
        start += (1.0 + rng.uniform(-uneven, uneven)) / hz
    return out


def _clicks(n: int, rate: int, rng: np.random.Generator) -> Float:
    centre = 1_200.0 * 3.0 ** rng.random()
    train = _strikes(n, rate, rng, rng.uniform(6.5, 22.0), rng.uniform(0.0015, 0.006), 0.03)
    return shaped(train, rate, 0.6 * centre, 1.7 * centre)


def _knock(n: int, rate: int, rng: np.random.Generator) -> Float:
    centre = rng.uniform(220, 1_300)
    train = _strikes(n, rate, rng, rng.uniform(3.8, 8.5), rng.uniform(0.008, 0.03), 0.1)
    return shaped(train, rate, 0.7 * centre, 1.5 * centre)


def _footsteps(n: int, rate: int, rng: np.random.Generator) -> Float:
    pace, centre = rng.uniform(1.8, 4.2), rng.uniform(120, 700)
    heel = _strikes(n, rate, rng, pace, rng.uniform(0.015, 0.04), 0.12)
    delay = int(rate * rng.uniform(0.05, 0.11))
    toe = np.concatenate([np.zeros(delay), shaped(heel, rate, 600, 3_000)[:-delay]])
    return shaped(heel, rate, 0.5 * centre, 2.0 * centre) + rng.uniform(0.3, 0.9) * toe


def _engine(n: int, rate: int, rng: np.random.Generator) -> Float:
    time = np.arange(n) / rate
    speed = rng.uniform(28, 150) * (1.0 + rng.uniform(-0.15, 0.15) * time) + rng.uniform(0, 2) * coloured(
        n, 2.0, rng
    )
    strengths = rng.uniform(0.3, 1.0, 14) / np.arange(1, 15) ** rng.uniform(0.3, 1.0)
    hum = sum(s * _tone(k * speed, rate) for k, s in enumerate(strengths, 1))
    exhaust = coloured(n, 1.0, rng) * (1.0 + _tone(speed / 2, rate))
    return shaped(hum + rng.uniform(0.2, 1.0) * exhaust, rate, 40, rng.uniform(500, 2_500))


def _rain(n: int, rate: int, rng: np.random.Generator) -> Float:
    hiss = shaped(rng.standard_normal(n), rate, rng.uniform(400, 1_500), rng.uniform(3_000, 7_500))
    drops = np.zeros(n)
    at = rng.integers(0, n, int(rng.uniform(40, 400) * n / rate))
    drops[at] = rng.standard_normal(at.size) * 3.0
    return hiss / rms(hiss) + rng.uniform(0.5, 2.5) * shaped(drops, rate, 1_500, 6_000) * 4.0


def _background(n: int, _rate: int, _rng: np.random.Generator) -> Float:
    return np.zeros(n)


SOUNDS: Mapping[str, Maker] = {
    "alarm": _alarm,
    "background": _background,
    "bark": _bark,
    "bell": _bell,
    "chirp": _chirp,
    "clicks": _clicks,
    "engine": _engine,
    "footsteps": _footsteps,
    "knock": _knock,
    "rain": _rain,
    "siren": _siren,
    "whistle_down": partial(_glide, up=False),
    "whistle_up": partial(_glide, up=True),
}
