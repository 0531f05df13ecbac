"""The integer power spectrum: block-normalised int16 frames and a real FFT, as in firmware/frontend.c.

Every line below is one line of the C. A frame is shifted left until its largest sample fills 16 bits, so
that quiet and loud frames keep the same number of significant bits; the shift is given back with the power.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

POWER_BITS = 10  # low bits of |X|² that are rounded away: what is left fits in 48 bits
FULL_SCALE_BITS = 29  # a sample of 1.0 (32,768) is 2**29 behind the window


def window_table(window: int) -> npt.NDArray[np.int32]:
    """Return the first half of the periodic Hann window in Q31, shape (window // 2 + 1,)."""
    n = np.arange(window // 2 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / window)
    return np.minimum(np.rint(hann * 2**31), 2**31 - 1).astype(np.int32)


def twiddle_table(fft: int) -> npt.NDArray[np.int32]:
    """Return cos and sin of 2 pi k / fft in Q31 for k < fft / 4, shape (fft // 4, 2)."""
    angle = 2 * np.pi * np.arange(fft // 4) / fft
    pairs = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.minimum(np.rint(pairs * 2**31), 2**31 - 1).astype(np.int32)


def power(
    samples: npt.NDArray[np.int16],
    half_window: npt.NDArray[np.int32],
    twiddles: npt.NDArray[np.int32],
    fft: int,
) -> tuple[npt.NDArray[np.uint64], Int64]:
    """Return the power of the bins 1 … fft/2 - 1 and the shift of each frame.

    Args:
        samples: (frames, window).
        half_window: from `window_table`.
        twiddles: from `twiddle_table`.
        fft: a power of two, at least the window.

    Returns:
        power: (fft/2 - 1, frames), below 2**48; a value p stands for
            |X|² = p * fft² * 2**(POWER_BITS - 2 * FULL_SCALE_BITS - 2 * shift), X of samples / 32768.
        shift: (frames,), 0 … 14.
    """
    x, shift = _windowed(samples, half_window, fft)
    re, im = _complex_fft(x, twiddles, fft)
    re, im = _split(re, im, twiddles, fft)
    squares = (re * re + im * im).astype(np.uint64)
    return (squares + np.uint64(1 << POWER_BITS - 1)) >> np.uint64(POWER_BITS), shift


def _windowed(
    samples: npt.NDArray[np.int16], half_window: npt.NDArray[np.int32], fft: int
) -> tuple[Int64, Int64]:
    """Return frames × window in 30 bits, shape (fft, frames), and the shift of each frame."""
    frames, window = samples.shape
    wide = samples.astype(np.int64)
    magnitude = np.bitwise_or.reduce(wide ^ (wide >> 63), axis=1)  # as many bits as the largest sample
    shift = 15 - np.frexp(np.maximum(magnitude, 1).astype(np.float64))[1].astype(np.int64)
    n = np.arange(window)
    w = half_window[np.minimum(n, window - n)].astype(np.int64)
    x = np.zeros((fft, frames), np.int64)
    x[:window] = ((wide << shift[:, None]) * w + (1 << 16) >> 17).T
    return x, shift


def _high(a: Int64, b: Int64) -> Int64:
    """Return a * b / 2**32 rounded, halves up."""
    product: Int64 = a * b
    product += 1 << 31
    product >>= 32
    return product


def _complex_fft(x: Int64, twiddles: npt.NDArray[np.int32], fft: int) -> tuple[Int64, Int64]:
    """Return the FFT of x[0::2] + j x[1::2], divided by fft / 2; each shape (fft // 2, frames).

    Decimation in time: one radix-4 pass without products, then radix-2 passes that halve.
    """
    points, frames = fft // 2, x.shape[1]
    order = _bit_reversed(points)
    re, im = _first_pass(x[0::2][order], x[1::2][order])
    half = 4
    while half < points:
        re, im = re.reshape(-1, 2, 2, half // 2, frames), im.reshape(-1, 2, 2, half // 2, frames)
        w = twiddles[:: points // half][: half // 2].astype(np.int64)[:, :, None]
        c, s = w[:, 0], w[:, 1]
        b_re, b_im = re[:, 1], im[:, 1]
        t_re, t_im = _high(b_re, c) + _high(b_im, s), _high(b_im, c) - _high(b_re, s)
        # The second half of the twiddles is -j times the first: (t_re, t_im) turns to (t_im, -t_re).
        turned = t_re[:, 1].copy()
        t_re[:, 1], t_im[:, 1] = t_im[:, 1], -turned
        a_re, a_im = re[:, 0] >> 1, im[:, 0] >> 1
        re, im = np.stack([a_re + t_re, a_re - t_re], axis=1), np.stack([a_im + t_im, a_im - t_im], axis=1)
        half *= 2
    return re.reshape(points, frames), im.reshape(points, frames)


def _first_pass(re: Int64, im: Int64) -> tuple[Int64, Int64]:
    """Return the first two stages at once, divided by 4 with rounding; points in bit-reversed order."""
    (a, b, c, d), (e, f, g, h) = (
        re.reshape(-1, 4, re.shape[1]).swapaxes(0, 1),
        im.reshape(-1, 4, im.shape[1]).swapaxes(0, 1),
    )
    out_re = (a + b + c + d, a - b + (g - h), a + b - (c + d), a - b - (g - h))
    out_im = (e + f + g + h, e - f - (c - d), e + f - (g + h), e - f + (c - d))
    return tuple((np.stack(part, axis=1) + 2 >> 2).reshape(re.shape) for part in (out_re, out_im))  # type: ignore[return-value]


def _split(re: Int64, im: Int64, twiddles: npt.NDArray[np.int32], fft: int) -> tuple[Int64, Int64]:
    """Return bins 1 … fft/2 - 1 of the real FFT, divided by fft, from the complex FFT of half the length."""
    points = fft // 2
    low, high = slice(1, points // 2), slice(points - 1, points // 2, -1)
    e_re, e_im = re[low] + re[high], im[low] - im[high]
    o_re, o_im = re[low] - re[high], im[low] + im[high]
    w = twiddles[1:].astype(np.int64)[:, :, None]
    c, s = w[:, 0], w[:, 1]
    t_re, t_im = _high(o_re, c) + _high(o_im, s), _high(o_im, c) - _high(o_re, s)
    e_re, e_im = (e_re >> 1) + 1, (e_im >> 1) + 1
    out_re = np.concatenate([e_re + t_im >> 1, re[points // 2, None] + 1 >> 1, (e_re - t_im >> 1)[::-1]])
    out_im = np.concatenate([e_im - t_re >> 1, im[points // 2, None] + 1 >> 1, (e_im + t_re >> 1)[::-1]])
    return out_re, out_im


def _bit_reversed(points: int) -> Int64:
    """Return the order in which decimation in time takes its points."""
    order = np.zeros(1, np.int64)
    while order.size < points:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order
