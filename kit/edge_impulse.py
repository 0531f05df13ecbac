"""Edge Impulse's cloud through its own SDK: what it estimates of a model, and its library for one.

Server and key come from the environment: EI_API_ENDPOINT, EI_API_KEY and EI_INGESTION_ENDPOINT.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from boards.errors import UserError
from kit import shelf
from kit.outputs import write_bytes
from kit.pipeline import read_model
from quantize import bundle as bundles

KEY, ENDPOINT = "EI_API_KEY", "EI_API_ENDPOINT"
CONNECT_S = 10.0  # until a server that does not answer counts as down
LIMIT_S = 1800.0  # of one job over there
CLASSES = {  # rows of the SDK's table of device classes
    "low_end_mcu": "low-end MCU",
    "high_end_mcu": "high-end MCU",
    "high_end_mcu_plus_accelerator": "high-end MCU with accelerator",
    "mpu": "Linux board",
    "gpu_or_mpu_accelerator": "Linux board with GPU or accelerator",
}
RUNTIMES = {"tflite": "TFLM", "eon": "EON", "eon_ram_optimized": "EON, least RAM"}
Result = TypeVar("Result")


def profile(source: str, device: str | None = None) -> dict[str, Any]:
    """Return what the cloud estimates of a bundle's or .tflite's int8 model; nothing of it is measured.

    Args:
        source: a bundle, an int8 .tflite, or a model of the shelf.
        device: one of the cloud's devices; None: its classes of devices only.

    Raises:
        UserError: no key, a refused one, no such device, no server, or a job that failed there.
    """
    model, _, _ = _model(source)

    def ask(ei: Any) -> Any:
        return ei.model.profile(model=model, device=device, timeout_sec=LIMIT_S)

    answer = _asked(ask)
    found = getattr(answer.model, "profile_info", None)
    if found is None:
        raise UserError("Edge Impulse gave no profile of the model: see the job in its studio")
    variant = found.int8 or found.float32
    return {
        "origin": "estimated",
        "by": "Edge Impulse",
        "model": source,
        "model_bytes": len(model),
        "device": None if device is None or variant is None else _device(variant.to_dict(), device),
        "classes": {key: _class(getattr(found.table, key).to_dict()) for key in CLASSES},
    }


def deploy(source: str, out: Path, target: str = "zip", engine: str = "tflite") -> dict[str, Any]:
    """Write the cloud's library for the model to the file `out`; it takes features, as the model does.

    Raises:
        UserError: as of `profile`, or no such target or engine.
    """
    model, labels, task = _model(source)

    def ask(ei: Any) -> bytes:
        from edgeimpulse.model.input_type import OtherInput
        from edgeimpulse.model.output_type import Classification, Regression

        meaning = Regression() if task == "regression" else Classification(labels=labels)
        made = ei.model.deploy(
            model=model,
            model_output_type=meaning,
            model_input_type=OtherInput(),
            deploy_model_type="int8",
            engine=engine,
            deploy_target=target,
            timeout_sec=LIMIT_S,
        )
        return bytes(made.getvalue())

    data = _asked(ask)
    if target == "zip" and not data.startswith(b"PK"):
        raise UserError(f"Edge Impulse sent {len(data)} bytes that are no zip: {_words(data[:80])}")
    write_bytes(out, data)
    return {"model": source, "target": target, "engine": engine, "output": str(out), "bytes": len(data)}


def figures(record: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """Return name, value and origin of each figure of a profile."""
    rows: list[tuple[str, Any, str]] = [("model bytes", record["model_bytes"], "measured")]
    shown = {record["device"]["name"]: record["device"]} if record["device"] else {}
    for name, told in {**shown, **{CLASSES[key]: one for key, one in record["classes"].items()}}.items():
        rows += [(f"{name}: {what}", told[what], "estimated") for what in ("milliseconds",) if told[what]]
        for runtime, memory in told["memory"].items():
            rows += [
                (f"{name}: {kind} bytes, {RUNTIMES.get(runtime, runtime)}", memory[kind], "estimated")
                for kind in ("ram", "rom", "arenaSize")
                if memory.get(kind) is not None
            ]
        if told["trouble"]:
            rows.append((f"{name}: does not run", told["trouble"], "estimated"))
    return rows


def _model(source: str) -> tuple[bytes, list[str] | None, str | None]:
    """Return the int8 model, its labels and its task, where they are known."""
    path = shelf.find(source)
    if path.suffix == ".tflite":
        return read_model(path), None, None
    bundle = bundles.load(path)
    return bundle.model(), list(bundle.labels), bundle.task


def _device(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"name": name, **_class({**told, "supported": told.get("isSupportedOnMcu", True)})}


def _class(told: Mapping[str, Any]) -> dict[str, Any]:
    supported = bool(told.get("supported"))
    reason = told.get("mcuSupportError") or told.get("profilingError")
    return {
        "milliseconds": told.get("timePerInferenceMs"),
        "memory": {name: dict(part) for name, part in _memory(told).items() if part},
        "supported": supported,
        "trouble": None if supported and not reason else reason or "not supported",
    }


def _memory(told: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    memory = dict(told.get("memory") or {})
    if "eonRamOptimized" in memory:
        memory["eon_ram_optimized"] = memory.pop("eonRamOptimized")
    if told.get("rom") is not None:  # a Linux board: no RAM is told
        memory["tflite"] = {"rom": told["rom"]}
    return memory


def _asked(ask: Callable[[Any], Result]) -> Result:
    """Return what `ask` gets from the SDK; everything that may go wrong there becomes one line."""
    key, place = os.environ.get(KEY), os.environ.get(ENDPOINT)
    if not key:
        raise UserError(f"{KEY} is not set: copy a key from the dashboard of your Edge Impulse project")
    with _without("tensorflow", "keras", "onnx", "pandas"):  # bytes need none of them, and they take seconds
        import edgeimpulse as ei
    from edgeimpulse.exceptions import EdgeImpulseException, InvalidDeviceException, InvalidTargetException
    from edgeimpulse_api.exceptions import ApiException, OpenApiException
    from urllib3.exceptions import HTTPError

    ei.API_KEY, where = key, place or ei.API_ENDPOINT
    ei.API_ENDPOINT = where
    _reach(where)
    try:
        with _jobs_that_fail_are_told():
            return ask(ei)
    except InvalidDeviceException as error:
        raise UserError(
            f"no device {error.device!r}; there are: {', '.join(error.profile_devices)}"
        ) from None
    except InvalidTargetException as error:
        raise UserError(
            f"no target {error.deploy_target!r} for this project; there are: {', '.join(error.target_names)}"
        ) from None
    except EdgeImpulseException as error:
        lines = [line for line in str(error).split("\r\n") if line.strip("- ")]
        raise UserError(f"Edge Impulse: {' '.join(' '.join(lines[:-1]).split())[:300]}") from None
    except ApiException as error:
        if error.status in (401, 403):
            raise UserError(
                f"{where} refuses the key in {KEY} ({error.status}): copy it from the project's dashboard"
            ) from None
        raise UserError(f"{where} answered {error.status} {_words(error.body or error.reason)}") from None
    except HTTPError as error:
        raise UserError(
            f"{where} cannot be reached ({type(getattr(error, 'reason', error)).__name__}): "
            f"check the network and {ENDPOINT}"
        ) from None
    except (OpenApiException, ValueError, LookupError, AttributeError, TypeError) as error:
        raise UserError(f"{where} answered what its SDK does not take: {_words(error)}") from None


def _reach(url: str) -> None:
    """Raise UserError where nothing takes a connection: the SDK would try for minutes."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("no http address")
        socket.create_connection((parts.hostname, port), CONNECT_S).close()
    except ValueError as error:
        raise UserError(f"{ENDPOINT} is {url!r}: {error}; it looks like https://HOST/v1") from None
    except OSError as error:
        raise UserError(
            f"{url} cannot be reached ({error.strerror or error}): check the network and {ENDPOINT}"
        ) from None


def _words(what: object) -> str:
    text = what.decode(errors="replace") if isinstance(what, bytes) else str(what)
    return " ".join(text.split())[:200]


@contextmanager
def _without(*modules: str) -> Iterator[None]:
    """Let optional modules seem missing to what is imported in the block."""
    hidden = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(dict.fromkeys(modules))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in hidden.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


@contextmanager
def _jobs_that_fail_are_told() -> Iterator[None]:
    """Let a job that ended without success be an error: the SDK goes on with what an earlier one left."""
    from edgeimpulse_api import JobsApi

    honest, before = JobsApi.get_job_status, logging.root.manager.disable

    def status(self: Any, project: int, job: int, **given: Any) -> Any:
        answer = honest(self, project, job, **given)
        told = answer.job
        if answer.success and told.finished and told.finished_successful is False:
            raise UserError(f"Edge Impulse: job {job} ({told.category}) failed: see its log in the studio")
        return answer

    JobsApi.get_job_status = status
    logging.disable(logging.CRITICAL)  # our line says what failed
    try:
        yield
    finally:
        JobsApi.get_job_status = honest
        logging.disable(before)
