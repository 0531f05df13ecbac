"""A stand-in for Edge Impulse's cloud: it answers and demands what the SDK's own models hold."""

from __future__ import annotations

import enum
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import edgeimpulse_api.models as api

KEY, PROJECT, ZIP = "ei_good", 7, b"PK\x03\x04 a library"
DEVICES = ("cortex-m4f-80mhz", "cortex-m7-216mhz")
SIMPLE = {bool: False, int: 1, float: 1.0, str: "x", datetime: "2026-01-01T00:00:00Z"}
WORDS = {
    "viewType": "list",
    "uiSection": "library",
    "sensor": "microphone",
}  # text that the SDK takes a few values of only
UPLOAD_FIELDS = {"modelFile", "modelFileName", "modelFileType"}


def sample(model: Any, **given: Any) -> dict[str, Any]:
    """Return JSON of an SDK model: `given` by alias, and the least that else is required; it is valid."""
    made = {}
    for one in model.__fields__.values():
        if one.alias in given:
            made[one.alias] = given.pop(one.alias)
        elif one.required:
            made[one.alias] = _example(one)
    assert not given, f"{model.__name__} has no {sorted(given)}"
    model.parse_obj(made)
    return made


def _example(one: Any) -> Any:
    if one.alias in WORDS:
        return WORDS[one.alias]
    if one.allow_none:
        return None
    if one.outer_type_ is not one.type_:  # a list, or a mapping
        return [] if "List" in str(one.outer_type_) else {}
    if not isinstance(one.type_, type):
        return {}
    if one.type_.__name__ == "StrictBool":  # a subclass of int
        return False
    if issubclass(one.type_, enum.Enum):
        return next(iter(one.type_)).value
    return next((value for kind, value in SIMPLE.items() if issubclass(one.type_, kind)), None) or (
        sample(one.type_) if hasattr(one.type_, "__fields__") else False
    )


@dataclass
class Cloud:
    """What the stand-in was asked, and how it shall misbehave."""

    url: str = ""
    calls: list[str] = field(default_factory=list)
    bodies: dict[str, Any] = field(default_factory=dict)  # last part of the path → what was sent
    job_succeeds: bool = True
    lacks: str = ""  # a field that the answer about the model leaves out
    download: bytes = ZIP

    def answer(self, method: str, path: str, body: Any) -> Any:
        """Return the JSON of a call, or the bytes of a download; KeyError for a call that is not known."""
        base = f"/v1/api/{PROJECT}"
        done = {"success": True}
        known: dict[tuple[str, str], Any] = {
            ("GET", "/v1/api/projects"): lambda: sample(
                api.ListProjectsResponse, **done, projects=[sample(api.Project, id=PROJECT)]
            ),
            ("GET", base): self.project,
            ("POST", f"{base}/pretrained-model/upload"): lambda: self.started(body, "upload"),
            ("POST", f"{base}/pretrained-model/profile"): lambda: self.started(body, "profile"),
            ("POST", f"{base}/jobs/build-ondevice-model"): lambda: self.started(
                _checked(api.BuildOnDeviceModelRequest, body), "build"
            ),
            ("POST", f"{base}/pretrained-model/save"): lambda: (
                self.started(_checked(api.SavePretrainedModelRequest, body), "save")
                and sample(api.GenericApiResponse, **done)
            ),
            ("GET", f"{base}/pretrained-model"): self.model,
            ("GET", f"{base}/jobs/3/status"): self.job,
            ("GET", f"{base}/jobs/3/stdout"): lambda: sample(api.LogStdoutResponse, **done),
            ("GET", f"{base}/deployment/targets/data-sources"): lambda: sample(
                api.DeploymentTargetsResponse, **done, targets=[sample(api.DeploymentTarget, format="zip")]
            ),
            ("GET", f"{base}/deployment/download"): lambda: self.download,
        }
        return known[method, path]()

    def started(self, body: Any, name: str) -> dict[str, Any]:
        self.bodies[name] = body
        return sample(api.StartJobResponse, success=True, id=3)

    def job(self) -> dict[str, Any]:
        ended = {"finished": "2026-01-01T00:00:05Z", "finishedSuccessful": self.job_succeeds}
        return sample(
            api.GetJobResponse, success=True, job=sample(api.Job, id=3, category="Profiling", **ended)
        )

    def project(self) -> dict[str, Any]:
        devices = [sample(api.LatencyDevice, mcu=name) for name in DEVICES]
        return sample(api.ProjectInfoResponse, success=True, latencyDevices=devices)

    def model(self) -> dict[str, Any]:
        memory = {
            "tflite": {"ram": 9000, "rom": 50_000, "arenaSize": 7000},
            "eon": {"ram": 8000, "rom": 30_000, "arenaSize": 6000},
        }
        mcu = sample(api.ProfileModelTableMcu, supported=True, timePerInferenceMs=12, memory=memory)
        small = sample(api.ProfileModelTableMcu, supported=False, mcuSupportError="does not fit")
        linux = sample(api.ProfileModelTableMpu, supported=True, timePerInferenceMs=1, rom=40_000.0)
        table = sample(
            api.ProfileModelTable,
            variant="int8",
            lowEndMcu=small,
            highEndMcu=mcu,
            highEndMcuPlusAccelerator=mcu,
            mpu=linux,
            gpuOrMpuAccelerator=linux,
        )
        told = sample(
            api.ProfileModelInfo,
            variant="int8",
            device=DEVICES[0],
            isSupportedOnMcu=True,
            timePerInferenceMs=34,
            memory=memory,
        )
        ends = {"inputs": [], "outputs": [_tensor((1, 13))]}
        whole = {
            **sample(api.GetPretrainedModelResponse, success=True, availableModelTypes=["int8"]),
            "model": {"fileName": "model", "profileInfo": {"int8": told, "table": table}, **ends},
        }
        api.GetPretrainedModelResponse.parse_obj(whole)
        whole.pop(self.lacks, None)
        return whole


def _tensor(shape: tuple[int, ...]) -> dict[str, Any]:
    return sample(api.PretrainedModelTensor, dataType="int8", name="logits", shape=list(shape))


def _checked(model: Any, body: Any) -> Any:
    """Return a request that the SDK's model takes, with no field that it does not know."""
    unknown = set(body) - {one.alias for one in model.__fields__.values()}
    assert not unknown, unknown
    model.parse_obj(body)
    return body


class _Handler(BaseHTTPRequestHandler):
    cloud: Cloud

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._reply("GET", None)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type", "")
        self._reply("POST", _form(kind, data) if "multipart" in kind else json.loads(data or b"null"))

    def _reply(self, method: str, body: Any) -> None:
        path = self.path.partition("?")[0]
        self.cloud.calls.append(f"{method} {path.replace(f'/v1/api/{PROJECT}', '…')}")
        if self.headers.get("x-api-key") != KEY:
            return self._send(401, {"success": False, "error": "Invalid API key"})
        try:
            answer = self.cloud.answer(method, path, body)
        except Exception as error:
            return self._send(400, {"success": False, "error": f"{type(error).__name__}: {error}"})
        return self._send(200, answer)

    def _send(self, status: int, answer: Any) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/zip" if answer is data else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _form(kind: str, data: bytes) -> dict[str, Any]:
    """Return the parts of a multipart body, which must be those of an upload and no others."""
    whole = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + data)
    parts: dict[str, Any] = {}
    for part in whole.get_payload():
        name = re.search(r'name="([^"]*)"', str(part["Content-Disposition"]))
        assert name is not None
        parts[name[1]] = part.get_payload(decode=True)
    assert set(parts) >= UPLOAD_FIELDS, sorted(parts)
    assert set(parts) <= UPLOAD_FIELDS | {"device", "representativeFeatures"}, sorted(parts)
    assert parts["modelFileType"] in (b"tflite", b"onnx", b"saved_model")
    return parts


@contextmanager
def running() -> Iterator[Cloud]:
    """Give a cloud that answers at its `url` until the block ends."""
    cloud = Cloud()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cloud": cloud}))
    cloud.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
