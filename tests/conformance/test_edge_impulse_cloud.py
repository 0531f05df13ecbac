"""`earkit edge-impulse` through the real SDK, against a stand-in cloud as strict as the SDK's models."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import earkit

from quantize import bundle as bundles

pytest.importorskip("edgeimpulse_api", reason="needs the edge-impulse extra")
edge_impulse_cloud = pytest.importorskip("edge_impulse_cloud")

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.filterwarnings("ignore")  # the SDK's own


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with edge_impulse_cloud.running() as cloud:
        monkeypatch.setenv("EI_API_ENDPOINT", cloud.url)
        monkeypatch.setenv("EI_API_KEY", edge_impulse_cloud.KEY)
        yield cloud


def one_line(capsys: Capture, *argv: str | Path) -> str:
    code, out, err = earkit(capsys, "edge-impulse", *argv)
    assert (code, out, len(err)) == (1, "", 1), err
    return err[0]


def test_a_profile_is_estimated_and_says_so(cloud: Any, tiny_bundle: Path, capsys: Capture) -> None:
    code, text, err = earkit(capsys, "edge-impulse", "profile", tiny_bundle, "--json")
    assert (code, err) == (0, [])
    record = json.loads(text)
    assert record["origin"] == "estimated"
    high, low = record["classes"]["high_end_mcu"], record["classes"]["low_end_mcu"]
    assert high["milliseconds"] == 12
    assert high["memory"]["tflite"] == {"ram": 9000, "rom": 50_000}
    assert low["trouble"] == "does not fit"
    assert cloud.calls == [
        "GET /v1/api/projects",
        "POST …/pretrained-model/upload",
        "GET …/jobs/3/status",
        "GET …/jobs/3/stdout",
        "POST …/pretrained-model/profile",
        "GET …/jobs/3/status",
        "GET …/jobs/3/stdout",
        "GET …/pretrained-model",
    ]
    assert cloud.bodies["upload"]["modelFile"] == (tiny_bundle / bundles.MODEL).read_bytes()


def test_a_device_is_asked_for(cloud: Any, tiny_model: Path, capsys: Capture) -> None:
    device = edge_impulse_cloud.DEVICES[0]
    code, text, err = earkit(capsys, "edge-impulse", "profile", tiny_model, "--device", device)
    assert (code, err) == (0, [])
    assert cloud.bodies["upload"]["device"] == device.encode()
    lines = [line for line in text.splitlines() if device in line]
    assert any("milliseconds" in line and "34" in line for line in lines)
    assert all(line.rstrip().endswith("estimated") for line in lines)
    assert "no device 'z80'; there are: cortex-m4f-80mhz" in one_line(
        capsys, "profile", tiny_model, "--device", "z80"
    )


def test_a_deployment_is_written(cloud: Any, tiny_bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "deep" / "library.zip"
    code, text, err = earkit(capsys, "edge-impulse", "deploy", tiny_bundle, "-o", out, "--json")
    assert (code, err) == (0, [])
    assert json.loads(text)["bytes"] == out.stat().st_size
    assert out.read_bytes() == edge_impulse_cloud.ZIP
    labels = list(bundles.load(tiny_bundle).labels)
    assert cloud.bodies["save"]["model"] == {"modelType": "classification", "labels": labels}
    assert cloud.bodies["save"]["input"] == {"inputType": "other"}
    assert cloud.bodies["build"] == {"engine": "tflite", "modelType": "int8"}
    assert "POST …/jobs/build-ondevice-model" in cloud.calls


def test_a_target_that_is_not_there(cloud: Any, tiny_bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    said = one_line(capsys, "deploy", tiny_bundle, "--target", "amiga", "-o", tmp_path / "x.zip")
    assert "no target 'amiga' for this project; there are: zip" in said
    assert not (tmp_path / "x.zip").exists()


def test_what_is_no_zip_is_not_written(
    cloud: Any, tiny_bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    cloud.download = b'{"success": false, "error": "gone"}'
    said = one_line(capsys, "deploy", tiny_bundle, "-o", tmp_path / "x.zip")
    assert "no zip" in said
    assert not (tmp_path / "x.zip").exists()


def test_a_job_that_fails_is_no_profile(cloud: Any, tiny_model: Path, capsys: Capture) -> None:
    cloud.job_succeeds = False
    assert "job 3 (Profiling) failed" in one_line(capsys, "profile", tiny_model)


def test_an_answer_without_a_field(cloud: Any, tiny_model: Path, capsys: Capture) -> None:
    cloud.lacks = "specificDeviceSelected"
    assert "answered what its SDK does not take" in one_line(capsys, "profile", tiny_model)


def test_a_refused_key(
    cloud: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("EI_API_KEY", "ei_wrong")
    said = one_line(capsys, "profile", tiny_model)
    assert "refuses the key in EI_API_KEY (401)" in said
    assert "ei_wrong" not in said


def test_no_key(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.delenv("EI_API_KEY", raising=False)
    assert "EI_API_KEY is not set" in one_line(capsys, "profile", tiny_model)


def test_no_server(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("EI_API_KEY", edge_impulse_cloud.KEY)
    monkeypatch.setenv("EI_API_ENDPOINT", f"http://127.0.0.1:{port}/v1")
    said = one_line(capsys, "profile", tiny_model)
    assert f"http://127.0.0.1:{port}/v1 cannot be reached" in said
