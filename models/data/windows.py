"""Fitting a clip to a model's length: a crop where it sounds, or room noise around it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.data.clips import Samples

FRAME = 160  # samples over which the noise floor is measured
FLOOR_SEED = 0x0EA2
AUDIBLE = 1e-3  # energy of a window that still counts, of the loudest one's (-30 dB)


def window(samples: Samples, n: int, rng: np.random.Generator | None = None) -> Samples:
    """Return exactly `n` samples of a clip, shape (n,).

    Longer clips are cropped to their loudest stretch, shorter ones are centred in noise as loud as their
    own quietest part. With `rng` (training) the crop or the position is random, within -30 dB of the loudest.
    """
    if samples.size <= n:
        spare = n - samples.size
        return pad(samples, n, spare // 2 if rng is None else int(rng.integers(spare + 1)))
    if rng is None:
        start = _loudest(samples, n)
    else:
        starts = _audible(samples, n, max(1, n // 8))
        start = int(np.clip(rng.choice(starts) + rng.integers(-(n // 16), n // 16 + 1), 0, samples.size - n))
    return samples[start : start + n]


def windows(samples: Samples, n: int, most: int = 10) -> npt.NDArray[np.int16]:
    """Return the windows of a clip whose logits are averaged, shape (1…most, n).

    They overlap by half and cover the clip; silent ones (30 dB below the loudest) are left out, and of
    more than `most` the evenly spread ones stay. A clip at most a quarter longer than `n` gives one.
    """
    if samples.size <= n + n // 4:
        return window(samples, n)[None]
    starts = _audible(samples, n, max(1, n // 2))
    if starts.size > most:
        starts = starts[np.linspace(0, starts.size - 1, most).round().astype(np.int64)]
    return np.stack([samples[start : start + n] for start in starts])


def pad(samples: Samples, n: int, start: int) -> Samples:
    """Return `n` samples: the clip at `start`, its own noise floor around it, always the same."""
    noise = np.random.default_rng(FLOOR_SEED).uniform(-1.0, 1.0, n) * (_floor(samples) * 3**0.5)
    out = np.rint(noise).astype(np.int16)
    out[start : start + samples.size] = samples
    return out


def _floor(samples: Samples) -> float:
    """Return the level (RMS) of the quietest tenth of the clip, at most 1 % of full scale."""
    frames = samples[: samples.size // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    if not frames.size:
        return 0.0
    return min(float(np.quantile(np.sqrt((frames**2).mean(axis=1)), 0.1)), 327.0)


def _energies(samples: Samples, n: int) -> npt.NDArray[np.int64]:
    """Return the energy of the window at each start, shape (samples - n + 1,)."""
    total = np.concatenate([[0], np.cumsum(samples.astype(np.int64) ** 2)])
    energies: npt.NDArray[np.int64] = total[n:] - total[:-n]
    return energies


def _loudest(samples: Samples, n: int) -> int:
    return int(_energies(samples, n).argmax())


def _audible(samples: Samples, n: int, step: int) -> npt.NDArray[np.int64]:
    """Return the starts, `step` apart and the last possible one, whose windows are not silent."""
    energies = _energies(samples, n)
    starts = np.unique(np.append(np.arange(0, energies.size, step), energies.size - 1))
    return starts[energies[starts] >= AUDIBLE * energies[starts].max()]
