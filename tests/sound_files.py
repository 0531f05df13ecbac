"""Sound files that tests write, and the one line that a refusal is."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings

from boards.errors import UserError

RNG = np.random.default_rng(0)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(n: int = 1_600, level: float = 0.1) -> np.ndarray:
    return RNG.uniform(-level, level, n)


def write(path: Path, samples=None, rate: int = 16_000, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise() if samples is None else samples, rate, **how)
    return path


def line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text
