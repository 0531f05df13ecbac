"""Clips with labels: loading them, splitting them fairly, fitting them to a model, and making some."""

from __future__ import annotations

from models.data.audio import blocks, read_audio
from models.data.clips import Clip, Dataset, check_label
from models.data.layouts import load
from models.data.windows import window, windows

__all__ = ["Clip", "Dataset", "blocks", "check_label", "load", "read_audio", "window", "windows"]
