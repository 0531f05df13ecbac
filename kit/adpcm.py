"""IMA ADPCM: sound at 4 bits a sample, for lines too slow for 16. The board's half is firmware/adpcm.h."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# fmt: off
STEPS = (
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23,
    25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80,
    88, 97, 107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279,
    307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
    1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327,
    3660, 4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493, 10442, 11487,
    12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794, 32767,
)
# fmt: on
MOVES = (-1, -1, -1, -1, 2, 4, 6, 8)
LINE_BITS = 10  # of a byte: start, eight, stop
OVERHEAD = 1.06  # of frames and their acknowledgements


def wanted(baud: int | None, rate: int) -> bool:
    """Tell whether int16 sound of `rate` Hz is more than a line of `baud` carries; None carries all."""
    return baud is not None and 2 * rate * LINE_BITS * OVERHEAD > baud


class Encoder:
    """Sound into messages that each can be decoded without those before."""

    def __init__(self) -> None:
        self._value = self._quality = 0

    def encode(self, samples: npt.NDArray[np.int16]) -> bytes:
        """Return the message of an even number of samples: where they begin, then two to a byte."""
        head = int(np.int16(self._value)).to_bytes(2, "little", signed=True) + bytes((self._quality, 0))
        codes = [self._code(sample) for sample in samples.tolist()]
        pairs = zip(codes[::2], codes[1::2], strict=True)
        return head + bytes(high << 4 | low for high, low in pairs)

    def _code(self, sample: int) -> int:
        step = STEPS[self._quality]
        left, sign = sample - self._value, 0
        if left < 0:
            left, sign = -left, 8
        code, change = 0, step >> 3
        for bit in (4, 2, 1):
            if left >= step:
                code |= bit
                left -= step
                change += step
            step >>= 1
        value = self._value - change if sign else self._value + change
        self._value = min(max(value, -32768), 32767)
        self._quality = min(max(self._quality + MOVES[code], 0), 88)
        return code | sign
