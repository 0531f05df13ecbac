"""wav2vec bodies as shrunken as those whose official outputs are recorded."""

from __future__ import annotations

from dataclasses import replace

from models.blocks.attention import Layer
from models.blocks.wav2vec import Waves


def shrunken(waves: Waves) -> Waves:
    """Return `waves` with 16 channels in its stem and two layers of 24."""
    convs = tuple(replace(conv, width=16) for conv in waves.stem.convs)
    encoder = replace(waves.encoder, width=24, layers=(Layer(3, 8, 32),) * 2)
    return replace(waves, stem=replace(waves.stem, convs=convs), taps=8, groups=2, encoder=encoder)
