"""The bundle: what leaves quantisation and all that a board needs. A folder, or its zip; nothing is pickled.

bundle.json        the fields of `Bundle`, with the SHA-256 of every other file
model.int8.tflite  int8 in, int8 out        model.float.tflite  the same net in float
model.qdq.onnx     for TensorRT (optional)  calibration.npz     `features` float32 (N, frames, bands)
eval.json          the fields of quantize.evaluate.Evaluation
expected.npz       `inputs` int8 (N, …) and the exact `outputs` int8 (N, classes)
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from boards import atomic
from boards.errors import UserError
from models.frontend import FrontEnd
from quantize.store import Folder, Store, Zip

SCHEMA = 1
MANIFEST, MODEL, FLOAT, ONNX = "bundle.json", "model.int8.tflite", "model.float.tflite", "model.qdq.onnx"
CALIBRATION, EVALUATION, EXPECTED = "calibration.npz", "eval.json", "expected.npz"
REQUIRED = frozenset({MODEL, FLOAT, CALIBRATION, EVALUATION, EXPECTED})
KNOWN = REQUIRED | {ONNX}
MAX_JSON = 16 << 20  # bytes; a manifest is a few KB

Array = npt.NDArray[Any]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tensor(_Checked):
    """An input, output or state of the int8 model: real = scale * (value - zero_point)."""

    name: Name
    shape: Annotated[tuple[Annotated[int, Field(gt=0, le=1 << 24)], ...], Field(min_length=1, max_length=8)]
    dtype: Literal["int8"] = "int8"
    scale: Annotated[float, Field(gt=0)]
    zero_point: Annotated[int, Field(ge=-128, le=127)]

    def real(self, values: Array) -> npt.NDArray[np.float32]:
        """Return the numbers that int8 `values` stand for."""
        return (values.astype(np.float32) - self.zero_point) * np.float32(self.scale)


class Provenance(_Checked):
    """Where the model came from."""

    data: Name  # name of the data set
    data_sha256: Sha256
    held_out: str | None
    seed: int
    settings_sha256: Sha256  # of everything that decided the result
    git_revision: str | None
    teacher: Name
    versions: dict[str, str]  # of the packages that made it
    created: str  # ISO 8601, UTC


class Bundle(_Checked):
    """The manifest `bundle.json`, and the way to the files beside it."""

    schema_version: Literal[1] = 1
    family: Name
    size: Name
    task: Name
    labels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=10_000)]
    sample_rate: Annotated[int, Field(ge=1_000, le=384_000)]  # Hz
    frontend: FrontEnd
    config: dict[str, JsonValue]  # of the family; the net can be rebuilt from it
    inputs: Annotated[tuple[Tensor, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Tensor, ...], Field(min_length=1)]
    states: tuple[Tensor, ...] = ()  # streaming state, carried from one step to the next
    licence: Name
    provenance: Provenance
    files: dict[str, Sha256] = {}

    _store: Store | None = PrivateAttr(default=None)

    @field_validator("frontend", mode="before")
    @classmethod
    def _only_known_fields(cls, value: Any) -> Any:
        if isinstance(value, dict):
            unknown = set(value) - {field.name for field in fields(FrontEnd)}
            if unknown:
                raise ValueError(f"unknown {', '.join(sorted(map(str, unknown)))}")
        return value

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or not all(label.isprintable() for label in value):
            raise ValueError("labels must be printable and differ")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Bundle:
        if self.frontend.sample_rate != self.sample_rate:
            raise ValueError(
                f"sample_rate is {self.sample_rate}, the front end's {self.frontend.sample_rate}"
            )
        if int(np.prod(self.inputs[0].shape)) != self.frontend.frames * self.frontend.features:
            raise ValueError(f"input {self.inputs[0].shape} does not fit the front end's frames x features")
        if int(np.prod(self.outputs[0].shape)) != len(self.labels):
            raise ValueError(f"output {self.outputs[0].shape} does not fit {len(self.labels)} labels")
        return self

    @property
    def path(self) -> Path:
        """Return the folder or zip that the bundle was loaded from."""
        return self._opened().path

    def read(self, name: str) -> bytes:
        """Return a file of the bundle, checked once more against its hash."""
        data = self._opened().read(name)
        if hashlib.sha256(data).hexdigest() != self.files.get(name):
            raise UserError(
                f"{self.path}: {name} is not what bundle.json says (SHA-256 differs): make the bundle again"
            )
        return data

    def model(self) -> bytes:
        """Return the int8 .tflite."""
        return self.read(MODEL)

    def evaluation(self) -> dict[str, Any]:
        """Return `eval.json`."""
        return _json(self.read(EVALUATION), f"{self.path}: {EVALUATION}")

    def arrays(self, name: str) -> dict[str, Array]:
        """Return the arrays of an .npz of the bundle."""
        return read_npz(self.read(name), f"{self.path}: {name}")

    def expected(self, shape: tuple[int, ...] | None = None) -> tuple[Array, Array]:
        """Return the inputs that travel with the bundle, as (N, *shape) if that is given, and their outputs.

        Raises:
            UserError: they are not int8, none, not as many, or of another size.
        """
        arrays = self.arrays(EXPECTED)
        found = [arrays[name] for name in ("inputs", "outputs") if name in arrays]
        if (
            len(found) < 2
            or any(array.dtype != np.int8 or not array.ndim or not array.size for array in found)
            or len(found[0]) != len(found[1])
            or (shape and found[0][0].size != int(np.prod(shape)))
        ):
            raise UserError(f"{self.path}: {EXPECTED} does not fit the model: make the bundle again")
        return (found[0].reshape(-1, *shape) if shape else found[0]), found[1]

    def _opened(self) -> Store:
        if self._store is None:
            raise UserError("this bundle was never saved: it has no files")
        return self._store


def save(bundle: Bundle, files: Mapping[str, bytes], out: Path) -> Bundle:
    """Write `bundle` with `files` to the folder (or the .zip) `out`, and return it as loaded from there.

    What was at `out` stays whole until the new bundle is complete.

    Raises:
        UserError: a file is missing or unknown, or `out` is something that is no bundle.
    """
    _check_names(set(files), str(out))
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    manifest = bundle.model_copy(update={"files": sums}).model_dump_json(indent=2).encode() + b"\n"
    check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    content = {MANIFEST: manifest, **files}
    if out.suffix == ".zip":
        with atomic.replacing(out) as temporary:
            _pack(temporary, content)
    else:
        with atomic.replacing_folder(out) as temporary:
            for name, data in content.items():
                (temporary / name).write_bytes(data)
    return load(out)


def check_target(out: Path) -> None:
    """Raise UserError if `out` exists and is not a bundle: it would be overwritten."""
    if out.suffix == ".zip":
        if out.is_dir():
            raise UserError(f"{out} is a folder; a bundle's zip needs another name")
        return
    if out.exists() and not (out.is_dir() and ((out / MANIFEST).exists() or not any(out.iterdir()))):
        raise UserError(f"{out} exists and is not a bundle: choose another -o, or remove it")


def zipped(bundle: Bundle, out: Path) -> None:
    """Write `bundle` as one zip; the same bundle gives the same bytes."""
    content = {
        MANIFEST: bundle._opened().read(MANIFEST),
        **{name: bundle.read(name) for name in bundle.files},
    }
    with atomic.replacing(out) as temporary:
        _pack(temporary, content)


def _pack(path: Path, content: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def load(path: Path) -> Bundle:
    """Return the bundle at `path` (a folder or a zip), with every field, size and hash checked.

    Raises:
        UserError: one line on what is missing, damaged or hostile.
    """
    atomic.recover(path)
    if not path.exists():
        raise UserError(f"{path}: no such bundle; `earkit compress` makes one")
    if not (path.is_dir() or path.is_file()):  # a device or a pipe could go on for ever
        raise UserError(f"{path}: neither a folder nor a file, so it is not a bundle")
    store: Store = Folder(path) if path.is_dir() else Zip(path)
    if MANIFEST not in store.names():
        raise UserError(f"{path}: no {MANIFEST} in it, so it is not a bundle")
    bundle = _parse(store.read(MANIFEST, MAX_JSON), f"{path}: {MANIFEST}")
    _check_names(set(bundle.files), str(path))
    bundle._store = store
    missing = sorted(set(bundle.files) - store.names())
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing: the bundle is not whole; make it again")
    for name, digest in bundle.files.items():
        if store.sha256(name) != digest:
            raise UserError(
                f"{path}: {name} is not what bundle.json says (SHA-256 differs): make the bundle again"
            )
    return bundle


def _parse(data: bytes, place: str) -> Bundle:
    version = _json(data, place).get("schema_version")
    if version != SCHEMA:
        raise UserError(
            f"{place}: schema version {version!r}, this earkit reads {SCHEMA}: use the earkit that made it"
        )
    try:
        return Bundle.model_validate_json(data)
    except UserError as error:  # the front end checks itself
        raise UserError(f"{place}: frontend: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{place}: {key + ': ' if key else ''}{first['msg']}") from None


def _json(data: bytes, place: str) -> dict[str, Any]:
    if len(data) > MAX_JSON:
        raise UserError(f"{place}: {len(data)} B of JSON, at most {MAX_JSON}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(value, dict):
        raise UserError(f"{place}: must be a JSON object")
    return value


def _check_names(names: set[str], place: str) -> None:
    if unknown := sorted(names - KNOWN):
        raise UserError(f"{place}: {unknown[0]!r} is not a file of a bundle")
    if missing := sorted(REQUIRED - names):
        raise UserError(f"{place}: {missing[0]} is missing: the bundle is not whole; make it again")


def read_npz(data: bytes, place: str) -> dict[str, Array]:
    """Return the arrays in the bytes of an .npz; no pickle, and no array larger than its own file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {Path(item.filename).stem: _read_npy(archive, item) for item in archive.infolist()}
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
        RuntimeError,
    ) as error:
        raise UserError(f"{place}: not a clean .npz: {' '.join(str(error).split())[:200]}") from None


def _read_npy(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> Array:
    if item.file_size > Store.MAX_BYTES:
        raise ValueError(f"{item.filename} unpacks to {item.file_size} B")
    if item.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{item.filename} is packed in way {item.compress_type}, numpy deflates")
    stream = io.BytesIO(archive.read(item))
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{item.filename}: npy version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if (
        dtype.hasobject
        or int(np.prod(shape, dtype=object)) * dtype.itemsize != item.file_size - stream.tell()
    ):
        raise ValueError(f"{item.filename}: {shape} of {dtype} is not what the file holds")
    stream.seek(0)
    array: Array = np.load(stream, allow_pickle=False)
    return array


def write_npz(**arrays: Array) -> bytes:
    """Return `arrays` as the bytes of a compressed .npz."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
