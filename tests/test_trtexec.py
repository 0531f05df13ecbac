"""TensorRT's reports: logs in the form of its releases, flags by version, outputs compared, tegrastats."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from kit.targets import tegra, tensorrt, trtexec
from kit.targets.trtexec import TrtexecError

# The lines of 8.x, 10.x and 11.x as their logs have them; the numbers are made up.
SUMMARY = """\
[11/23/2026-20:15:02] [I] Warmup completed 311 queries over 500 ms
[11/23/2026-20:15:02] [I] Timing trace has 4021 queries over 5.0004 s
[11/23/2026-20:15:02] [I] Average on 100 runs - GPU latency: 9.5 ms - Host latency: 9.9 ms (enqueue 9.1 ms)
[11/23/2026-20:15:02] [I]
[11/23/2026-20:15:02] [I] === Performance summary ===
[11/23/2026-20:15:02] [I] Throughput: 804.136 qps
[11/23/2026-20:15:02] [I] Latency: min = 1.125 ms, max = 3.5 ms, mean = 1.25 ms, median = 1.2 ms{tails}
[11/23/2026-20:15:02] [I] Enqueue Time: min = 0.25 ms, max = 0.5 ms, mean = 0.3 ms, median = 0.275 ms{tails}
[11/23/2026-20:15:02] [I] H2D Latency: min = 0.01 ms, max = 0.2 ms, mean = 0.02 ms, median = 0.0125 ms{tails}
[11/23/2026-20:15:02] [I] GPU Compute Time: min = 1 ms, max = 3 ms, mean = 1.5 ms, median = 1.1 ms{tails}
[11/23/2026-20:15:02] [I] D2H Latency: min = 1.2e-05 ms, max = 0.1 ms, mean = 0.1 ms, median = 0.1 ms{tails}
[11/23/2026-20:15:02] [I] Total Host Walltime: 5.0004 s
[11/23/2026-20:15:02] [W] * GPU compute time is unstable, with coefficient of variance = 4.2%.
[11/23/2026-20:15:02] [I] Explanations of the performance metrics are printed in the verbose logs.
[11/23/2026-20:15:02] [I]
"""
OLD, NEW = (
    ", percentile(99%) = 2.5 ms",
    (", percentile(90%) = 1.4 ms, percentile(95%) = 1.5 ms, percentile(99%) = 2.5 ms"),
)
COMMAND = "/usr/src/tensorrt/bin/trtexec --loadEngine=model.engine"
FAILED = """\
&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # {command}
[11/23/2026-20:15:02] [I] === Model Options ===
[11/23/2026-20:15:02] [I] [TRT] [MemUsageChange] Init CUDA: CPU +2, GPU +0, now: CPU 34, GPU 3320 (MiB)
{errors}
&&&& FAILED TensorRT.trtexec [TensorRT v100300] # {command}
"""


def log(version: str, tails: str) -> str:
    """Return a whole log of a measurement that passed."""
    head, foot = (
        f"&&&& {word} TensorRT.trtexec [TensorRT {version}] # {COMMAND}\n" for word in ("RUNNING", "PASSED")
    )
    return head + SUMMARY.format(tails=tails) + foot


@pytest.mark.parametrize(
    ("version", "tails", "said", "percentiles"),
    [
        ("v8502", OLD, "8.5.2", {"p99"}),
        ("v8602", NEW, "8.6.2", {"p90", "p95", "p99"}),
        ("v100300] [b30", NEW, "10.3.0", {"p90", "p95", "p99"}),
        ("v101303] [b9", NEW, "10.13.3", {"p90", "p95", "p99"}),
        ("v11.1.0.106] [b48", NEW, "11.1.0", {"p90", "p95", "p99"}),
        ("v110100] [b106", NEW, "11.1.0", {"p90", "p95", "p99"}),
    ],
)
def test_a_report_is_read(version: str, tails: str, said: str, percentiles: set[str]) -> None:
    report = trtexec.parse(log(version, tails))
    assert (report["verdict"], report["version"], report["stand_in"]) == ("PASSED", said, False)
    assert (report["throughput"], report["count"]) == (804.136, 4021)
    latency = report["latency"]
    assert set(latency) == {"min", "max", "mean", "median"} | percentiles
    assert (latency["min"], latency["max"], latency["mean"], latency["median"]) == (1.125, 3.5, 1.25, 1.2)
    assert latency["p99"] == 2.5
    assert report["compute"]["median"] == 1.1  # not what "Total GPU Compute Time" says
    assert report["enqueue"]["median"] == 0.275
    assert report["to_gpu"]["max"] == 0.2
    assert report["from_gpu"]["min"] == 1.2e-05
    assert report["warnings"] == ["* GPU compute time is unstable, with coefficient of variance = 4.2%."]
    assert report["errors"] == []


def test_a_log_that_was_cut_or_is_of_something_else_gives_no_figure() -> None:
    whole = log("v100300", NEW)
    for end in range(0, whole.index("&&&& PASSED") + 12, 37):
        report = trtexec.parse(whole[:end])
        assert report["verdict"] is report["latency"] is report["throughput"] is report["count"] is None
    for text in ("", "no log", "Latency: min = x ms", "&&&& PASSED", whole.replace("= 1.2 ms", "= inf ms")):
        assert trtexec.parse(text)["latency"] is None
    assert trtexec.parse(whole.replace("804.136 qps", "nan qps"))["throughput"] is None


def test_a_stand_in_is_told_from_tensorrt() -> None:
    text = "&&&& PASSED TensorRT.trtexec [TensorRT v100300] # stand-in for trtexec --onnx=model.onnx\n"
    report = trtexec.parse(text)
    assert report["stand_in"]
    assert report["latency"] is report["throughput"] is None


@pytest.mark.parametrize(
    ("errors", "code", "wanted"),
    [
        (
            "[11/23/2026-20:15:02] [E] Unknown option: --skipInference \n",
            1,
            "TensorRT 10.3.0: Unknown option: --skipInference: this earkit does not know its flags",
        ),
        (
            "[11/23/2026-20:15:02] [E] Error[2]: [virtualMemoryBuffer.cpp::resizePhysical::161] OutOfMemory",
            1,
            "close other programs there, or add swap",
        ),
        (
            "[11/23/2026-20:15:02] [E] [TRT] ModelImporter.cpp:949: While parsing node number 146 [Tile]:",
            1,
            "ModelImporter.cpp:949: While parsing node number 146 [Tile]: it has no layer for an op",
        ),
        ("[11/23/2026-20:15:02] [E] Saving engine to file failed.", 1, "Saving engine to file failed."),
        ("[11/23/2026-20:15:02] [E] Cuda failure at logger.h:1: no device", 1, "may this user use it"),
        ("", 137, "it was killed, perhaps for want of memory"),
        ("", 3, "it ended with 3"),
    ],
)
def test_what_failed_is_one_line(errors: str, code: int, wanted: str) -> None:
    report = trtexec.parse(FAILED.format(command=COMMAND, errors=errors))
    line = trtexec.why(report, code)
    assert report["verdict"] == "FAILED"
    assert wanted in line
    assert "\n" not in line


def test_versions_are_numbers() -> None:
    found = {text: trtexec.version(text) for text in ("8001", "8502", "100300", "101601", "110100", "8.6.1")}
    assert list(found.values()) == [(8, 0, 1), (8, 5, 2), (10, 3, 0), (10, 16, 1), (11, 1, 0), (8, 6, 1)]


def test_flags_are_those_of_the_version() -> None:
    job = {"int8": True, "input": "features", "shape": [49, 40], "open": False}
    assert trtexec.building((8, 5, 2), job) == [
        "--onnx=model.onnx",
        "--saveEngine=model.engine.part",
        "--buildOnly",
        "--int8",
        "--fp16",
    ]
    assert trtexec.building((10, 3, 0), job)[2:] == ["--skipInference", "--int8", "--fp16"]
    assert trtexec.building((10, 3, 0), {**job, "int8": False})[2:] == ["--skipInference", "--fp16"]
    for release in ((11, 0, 0), (11, 4, 1), (12, 0, 0)):
        assert trtexec.building(release, job)[2:] == ["--skipInference", "--stronglyTyped"]
        assert "--includeDataTransfers" in trtexec.measuring(release, job)
        assert not {"--useSpinWait", "--useCudaGraph"} & set(
            trtexec.measuring(release, job)
        )  # it always does
    assert {"--useSpinWait", "--useCudaGraph", "--separateProfileRun"} <= set(
        trtexec.measuring((10, 3, 0), job)
    )
    assert "--loadInputs=features:input3.bin" in trtexec.answering((10, 3, 0), job, 3)
    for arguments in (
        trtexec.building((10, 3, 0), {**job, "open": True}),
        trtexec.answering((10, 3, 0), {**job, "open": True}, 0),
        trtexec.measuring((10, 3, 0), {**job, "open": True}),
    ):
        assert "--shapes=features:1x49x40" in arguments
    assert not any("--shapes" in one for one in trtexec.measuring((10, 3, 0), job))  # it would be refused


def test_outputs_are_read_and_compared_as_numpy_does() -> None:
    text = '[\n  { "name" : "logits"\n  , "dimensions" : "1x3"\n  , "values" : [ 0.5, -1, 2e-05 ]\n  }\n]\n'
    assert trtexec.outputs_of(text) == [0.5, -1, 2e-05]
    for bad in ('[{"values": [ nan ]}]', '[{"values": []}]', "[]", "{", '[{"values": 3}]'):
        with pytest.raises(TrtexecError, match="are no numbers"):
            trtexec.outputs_of(bad)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 3))
    b = a + 0.1 * rng.normal(size=(4, 3))
    said = trtexec.compare(a.tolist(), b.tolist())
    assert said["decibel"] == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()))
    assert said["largest"] == pytest.approx(np.abs(a - b).max())
    assert said["same_choice"] == (a.argmax(axis=1) == b.argmax(axis=1)).sum()
    assert trtexec.compare(a.tolist(), a.tolist())["decibel"] is None
    with pytest.raises(TrtexecError, match="another number of outputs"):
        trtexec.compare(a.tolist(), b[:, :2].tolist())


def test_logs_and_outputs_that_are_absurd_crash_nothing() -> None:
    whole, long = log("v100300", NEW), "9" * 5000
    for text in (
        whole.replace("v100300", f"v{long}"),
        whole.replace("v100300", "v..."),
        whole.replace("4021", long),
        whole.replace("1.2 ms", f"{long} ms"),
        whole.replace("804.136", "-+.e"),
        whole.replace("Latency: ", "Latency: " * 1000),
        "&&&& PASSED TensorRT.trtexec [TensorRT v\n" * 1000,
        "\0\x1b[2J" + whole,
    ):
        report = trtexec.parse(text)
        assert trtexec.why(report, 1).count("\n") == 0
        json.dumps(report, allow_nan=False)
    deep = "[" * 100_000
    for values in (long, "9" * 400, '"x"', "null"):
        with pytest.raises(TrtexecError, match="are no numbers"):
            trtexec.outputs_of(f'[{{"values": [{values}]}}]')
    for text in (deep, "3", ""):
        with pytest.raises(TrtexecError, match="are no numbers"):
            trtexec.outputs_of(text)
    for text in (deep, '[{"name": 1, "averageMs": NaN, "percentage": 1}]', '{"name": 1}', "7", "[7]", None):
        assert tensorrt.layers(text) == []


def test_a_jetson_that_tells_nonsense_tells_nothing() -> None:
    long = "9" * 5000
    for text in (STATS.replace("2345", long), STATS.replace("GR3D_FREQ 0", f"GR3D_FREQ {long}")):
        assert tegra.stats(text)["samples"] <= 2
    absurd = STATS.replace("7000mW", f"{long}mW").replace("51C", f"{long}C").replace("RAM 2345", "RAM x")
    said = tegra.stats(absurd)
    assert (said["samples"], said["whole"]) == (1, None)
    assert said["celsius"] == {"cpu": 49.5, "soc2": 47.0, "tj": 52.0}
    told = tegra.state({"jetson_clocks": f"GPU CurrentFreq={long}\n", "nvpmodel": "\0" * 9, "module": "\0"})
    assert told == {"power_mode": None, "megahertz": {}, "l4t": None, "module": None}


STATS = """\
11-23-2026 20:15:01 RAM 2345/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [5%@1510,off] \
EMC_FREQ 1%@2133 GR3D_FREQ 0%@[305] APE 200 cpu@48.5C soc2@47C cv0@-256C gpu@47.125C tj@50C \
VDD_IN 4000mW/4000mW VDD_CPU_GPU_CV 1200mW/1200mW VDD_SOC 1000mW/1000mW
11-23-2026 20:15:02 RAM 2350/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [5%@1510,off] \
EMC_FREQ 1%@2133 GR3D_FREQ 98%@[624] APE 200 cpu@49.5C soc2@47C cv0@-256C gpu@51C tj@52C \
VDD_IN 7000mW/5500mW VDD_CPU_GPU_CV 3200mW/2200mW VDD_SOC 1200mW/1100mW
RAM 23"""


def test_tegrastats_is_read() -> None:
    said = tegra.stats(STATS)
    assert (said["samples"], said["whole"]) == (2, "VDD_IN")
    assert said["memory_bytes"] == 2350 << 20
    assert said["gpu_load_percent"] == 49
    assert said["celsius"] == {"cpu": 49.5, "gpu": 51.0, "soc2": 47.0, "tj": 52.0}
    assert said["watts"] == {"VDD_CPU_GPU_CV": 2.2, "VDD_IN": 5.5, "VDD_SOC": 1.1}
    old = tegra.stats("RAM 2135/3964MB (lfb 1x4MB) CPU [2%@2035] GR3D_FREQ 0%@921 POM_5V_IN 4250/4200")
    assert (old["whole"], old["watts"]) == ("POM_5V_IN", {"POM_5V_IN": 4.25})
    nothing = tegra.stats("")
    assert (nothing["samples"], nothing["whole"], nothing["memory_bytes"]) == (0, None, None)


def test_the_state_of_a_jetson_is_read() -> None:
    clocks = (
        "SOC family:tegra234  Machine:NVIDIA Orin Nano\n"
        "cpu0:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=1510400 c7=1\n"
        "GPU MinFreq=306000000 MaxFreq=624750000 CurrentFreq=624750000\n"
        "EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=0\n"
    )
    said = tegra.state(
        {
            "nvpmodel": "NV Power Mode: 15W\n0\n",
            "jetson_clocks": clocks,
            "release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n",
            "module": "NVIDIA Jetson Orin Nano\0",
        }
    )
    assert said == {
        "power_mode": "15W",
        "megahertz": {"cpu0": 1510, "GPU": 625, "EMC": 2133},
        "l4t": "36.4.3",
        "module": "NVIDIA Jetson Orin Nano",
    }
    assert tegra.state({"nvpmodel": None, "release": "x"}) == {
        "power_mode": None,
        "megahertz": {},
        "l4t": None,
        "module": None,
    }


def test_the_device_needs_no_newer_python_and_no_package() -> None:
    source = Path(trtexec.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    runtime = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in runtime if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in runtime if isinstance(node, ast.ImportFrom)}
    assert names <= {
        "__future__",
        "json",
        "math",
        "os",
        "re",
        "shutil",
        "subprocess",
        "sys",
        "time",
        "typing",
    }
    json.dumps(trtexec.parse(log("v100300", NEW)))
