"""What TensorFlow Lite Micro with CMSIS-NN costs on the models of MLPerf Tiny: published measurements.

TensorFlow Lite Micro 90b983c, CMSIS-NN 4ab83cc, GCC 12.2, the lower of -O2 and -O3; executed guest
instructions of one inference in QEMU 7.2. Only int8 kernels were registered, for the operators of a model.
"""

from __future__ import annotations

SOURCE = "TensorFlow Lite Micro 90b983c with CMSIS-NN 4ab83cc, GCC 12.2, counted in QEMU 7.2"

# model → core → executed instructions. vww_96, resnet8 and streaming_ww were the files of MLPerf Tiny;
# benchmarks/tiny_models.py makes models of the same shapes.
INSTRUCTIONS = {
    "kws_ref_model": {
        "cortex-m4": 7_696_424,
        "cortex-m7": 7_642_171,
        "cortex-m55": 1_783_753,
        "cortex-m3": 10_531_213,
        "cortex-m0plus": 28_991_911,
    },
    "ad01_int8": {
        "cortex-m4": 582_347,
        "cortex-m7": 582_641,
        "cortex-m55": 149_986,
        "cortex-m3": 955_935,
        "cortex-m0plus": 1_763_117,
    },
    "streaming_ww": {
        "cortex-m4": 2_226_387,
        "cortex-m7": 2_187_720,
        "cortex-m55": 407_911,
        "cortex-m3": 4_265_580,
        "cortex-m0plus": 9_321_551,
    },
    "vww_96": {
        "cortex-m4": 24_101_961,
        "cortex-m7": 24_025_587,
        "cortex-m55": 6_433_602,
        "cortex-m3": 31_959_254,
        "cortex-m0plus": 86_878_510,
    },
    "resnet8": {
        "cortex-m4": 29_862_730,
        "cortex-m7": 29_937_522,
        "cortex-m55": 4_810_538,
        "cortex-m3": 41_757_688,
        "cortex-m0plus": 97_554_949,
    },
}

# model → core → (arena bytes, flash bytes without the model); no other cores are published
MEMORY = {
    "kws_ref_model": {"cortex-m4": (22_820, 54_208), "cortex-m55": (27_348, 45_576)},
    "ad01_int8": {"cortex-m4": (2_580, 27_864), "cortex-m55": (9_268, 19_896)},
    "streaming_ww": {"cortex-m4": (16_596, 51_640), "cortex-m55": (19_956, 42_432)},
    "vww_96": {"cortex-m4": (100_708, 54_208), "cortex-m55": (100_772, 45_576)},
    "resnet8": {"cortex-m4": (54_996, 52_012), "cortex-m55": (55_028, 42_312)},
}


def instructions(model: str, core: str) -> int | None:
    """Return the baseline's executed instructions, None where nothing is published."""
    return INSTRUCTIONS.get(model, {}).get(core)


def memory(model: str, core: str) -> tuple[int, int] | None:
    """Return the baseline's (arena bytes, flash bytes without the model), None where nothing is published."""
    return MEMORY.get(model, {}).get(core)
