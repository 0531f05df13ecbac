"""What an export is made from, and the example program that goes with each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Project:
    """Sources of a model that build alone: C11, no heap, of a C library memcpy, memmove and memset only."""

    identifier: str  # names targets and folders
    title: str
    unit: str
    frontend: bool
    states: bool  # it goes on from run to run: each takes the frames behind those of the last
    sources: Mapping[str, str]  # path → text

    @property
    def units(self) -> list[str]:
        """Return the paths of what is compiled."""
        return sorted(path for path in self.sources if path.endswith(".c"))


def body(project: Project) -> str:
    """Return the C of an example's work: sound or zeros in, one run of the model, the best output."""
    feed = _FROM_SOUND if project.frontend else _FROM_ZEROS
    return feed + _BEST


def hearing(project: Project) -> str:
    """Return the C of an example that hears sample by sample: `hear` says when `best_output` is due."""
    return _HEAR.replace("@HOP@", "EAR_FE_FRAMES" if project.states else "(EAR_FE_FRAMES / 4 + 1)") + _BEST


_HEAR = """\
#define HOP_FRAMES @HOP@ /* frames between two results */

static int16_t window[EAR_FE_WINDOW];
static int8_t frames[EAR_FE_FRAMES * EAR_FE_FEATURES]; /* a ring */
static uint32_t held, newest, due = EAR_FE_FRAMES;

/* Takes one sample; true when the frames are there for which the model should run. */
static bool hear(int16_t sample) {
    window[held++] = sample;
    if (held < EAR_FE_WINDOW)
        return false;
    ear_frontend_frame(window, frames + newest * EAR_FE_FEATURES);
    newest = (newest + 1) % EAR_FE_FRAMES;
    held = EAR_FE_WINDOW - EAR_FE_HOP;
    memmove(window, window + EAR_FE_HOP, held * sizeof *window);
    if (--due)
        return false;
    due = HOP_FRAMES;
    return true;
}

/* Features of the last frames fill the input, the oldest first. */
static void fill_input(void) {
    uint32_t older = (EAR_FE_FRAMES - newest) * EAR_FE_FEATURES;
    memcpy(ear_input, frames + newest * EAR_FE_FEATURES, older);
    memcpy(ear_input + older, frames, newest * EAR_FE_FEATURES);
}
"""
_FROM_SOUND = """\
/* Features of the last EAR_FE_FRAMES frames of sound fill the input, the oldest first. */
static int16_t sound[EAR_FE_WINDOW + (EAR_FE_FRAMES - 1) * EAR_FE_HOP]; /* at EAR_FE_RATE: put yours here */

static void fill_input(void) {
    for (int frame = 0; frame < EAR_FE_FRAMES; ++frame)
        ear_frontend_frame(sound + frame * EAR_FE_HOP, ear_input + frame * EAR_FE_FEATURES);
}
"""
_FROM_ZEROS = """\
/* Put your values here: model.h says what shape, scale and zero-point each input has. */
static void fill_input(void) {
    for (uint32_t i = 0; i < EAR_INPUTS; ++i)
        for (uint32_t k = 0; k < ear_inputs[i].bytes; ++k)
            ((uint8_t *)ear_inputs[i].data)[k] = 0;
}
"""
_BEST = """
/* Runs the model once and returns the place of the largest byte of its first output. */
static uint32_t best_output(void) {
    const int8_t *y = (const int8_t *)ear_outputs[0].data;
    uint32_t best = 0;
    fill_input();
    ear_model_invoke(0);
    for (uint32_t i = 1; i < ear_outputs[0].bytes; ++i)
        if (y[i] > y[best])
            best = i;
    return best;
}
"""
INCLUDES = {False: '#include "model.h"\n', True: '#include "frontend.h"\n#include "model.h"\n'}
