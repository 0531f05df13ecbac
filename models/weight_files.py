"""Files of official weights: .safetensors, .npz and PyTorch's own, as named arrays; code is refused."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from boards import atomic
from boards.errors import UserError
from models import npz, pickled
from models.data.clips import file_digest

Array: TypeAlias = NDArray[Any]

TORCH = (".pt", ".pth", ".ckpt", ".bin")
WRAPPERS = ("model", "state_dict", "module", "model_state_dict", "net", "network", "params", "weights")
TRAINING = re.compile(r"optim|(lr_)?sched|scaler|callbacks|loops|global_step|epoch", re.IGNORECASE)
LABELS = ("labels", "label_dict")  # names of the classes, beside the weights
REFUSED = re.compile(r"GLOBAL (\S+) (?:was not|whose)")
CLUTTER = re.compile(  # of torch's errors, which advise to load the file without care
    r"Weights only load failed.*?(WeightsUnpickler error: |$)|In PyTorch 2\.6.*|Check the documentation.*"
    r"|This is an internal miniz.*",
    re.DOTALL,
)
MOST_LABELS = 100_000
CURE = "download or save it again"
INSTEAD = {  # how a file begins that came in place of the weights
    b"version https://git-lfs": "a pointer of Git LFS, not the weights: `git lfs pull` brings them",
    b"<!doctype": "a web page, not the weights: download the file that it links to",
    b"<html": "a web page, not the weights: download the file that it links to",
}
NUMBERS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "BF16", "F32", "F64")


@dataclass(frozen=True)
class WeightFile:
    """What a file of weights holds: arrays by their names there, and the names of the classes, if any."""

    arrays: Mapping[str, Array]
    labels: tuple[str, ...] = ()


def read(path: Path) -> WeightFile:
    """Return the weights in `path`: dictionaries in it flattened with dots, one wrapper around all taken off.

    PyTorch's files are read once: what is in them goes to the cache folder as .safetensors, by their SHA-256.

    Raises:
        UserError: the file is missing, of another kind, damaged, or holds code and not only weights.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file of weights"
        raise UserError(f"{path}: {what}; {_kinds()} is needed")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: {_kinds()} is needed, not {path.suffix or 'a name without an ending'}")
    _check_beginning(path)
    found = reader(path)
    if not found.arrays:
        raise UserError(f"{path}: holds no arrays of numbers, so no weights")
    strange = next((name for name in found.arrays if name and not name.isprintable()), None)
    if strange is not None:
        raise UserError(f"{path}: has an array with the name {strange!r}, not one of weights: {CURE}")
    return WeightFile(unwrapped(found.arrays), found.labels)


def unwrapped(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return `arrays` without the wrapper (`model.` …) that stands before every name."""
    while True:
        outer = {name.partition(".")[0] if "." in name else "" for name in arrays}
        (only,) = outer if len(outer) == 1 else ("",)
        if only not in WRAPPERS:
            return arrays
        arrays = {name.partition(".")[2]: value for name, value in arrays.items()}


def flattened(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dictionaries and lists with their names, `a.b.0`.

    What training kept beside the weights is left out. It needs no stack: neither depth nor a ring stops it.
    """
    waiting: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    while waiting:
        name, one = waiting.pop()
        if isinstance(one, Mapping):
            parts = [(str(key), inner) for key, inner in one.items()]
        elif isinstance(one, (list, tuple)):
            parts = [(str(key), inner) for key, inner in enumerate(one)]
        else:
            yield name, one
            continue
        if id(one) in seen:
            continue
        seen.add(id(one))
        kept = [part for part in parts if name or not TRAINING.match(part[0])]
        waiting += [(f"{name}.{key}" if name else key, inner) for key, inner in reversed(kept)]


def _check_beginning(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(64).lstrip().lower()
            size = file.seek(0, 2)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not size:
        raise UserError(f"{path}: is empty (0 bytes): {CURE}")
    for start, what in INSTEAD.items():
        if head.startswith(start):
            raise UserError(f"{path}: is {size} bytes of {what}")


def _kinds() -> str:
    *most, last = READERS
    return f"a {', '.join(most)} or {last}"


def _safetensors(path: Path) -> WeightFile:
    import ml_dtypes  # noqa: F401  (numpy then knows bfloat16)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            kinds = {name: str(file.get_slice(name).get_dtype()) for name in names}
            strange = next((name for name in names if kinds[name] not in NUMBERS), None)
            if strange is not None:
                raise _unfit(path, strange, kinds[strange])
            arrays = {name: _plain(file.get_tensor(name)) for name in names}
            return WeightFile(arrays, _label_names((file.metadata() or {}).get(LABELS[0])))
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError) as error:
        raise _damaged(path, "a .safetensors file", error) from None


def _npz(path: Path) -> WeightFile:
    found = npz.read(path, CURE)
    texts = {name: found.pop(name) for name in list(found) if found[name].dtype.kind in "US"}
    labels = next((texts[name] for name in LABELS if name in texts), np.array([], str))
    strange = next((name for name in found if found[name].dtype.kind not in "fiub"), None)
    if strange is not None:
        raise _unfit(path, strange, str(found[strange].dtype))
    arrays = {name: _plain(value) for name, value in found.items()}
    return WeightFile(arrays, tuple(str(label) for label in labels.ravel()[:MOST_LABELS]))


def _plain(value: Array) -> Array:
    """Return numbers as numpy's own: other kinds of floats become float32."""
    known = value.dtype.kind in "iub" or value.dtype in (np.float16, np.float32, np.float64)
    return value if known else value.astype(np.float32)


def _torch(path: Path) -> WeightFile:
    """Return the weights of one of PyTorch's files, from the cache if it was read before."""
    import platformdirs

    digest = file_digest(path).hex()
    kept = Path(platformdirs.user_cache_dir("earkit")) / "weights" / f"{digest}.safetensors"
    if kept.is_file():
        with contextlib.suppress(UserError):  # a damaged copy is made anew
            return _safetensors(kept)
    found = _opened(path)
    if found.arrays:
        with contextlib.suppress(OSError):  # without room for the copy it is read again each time
            _keep(found, kept)
    return found


def _keep(found: WeightFile, target: Path) -> None:
    from safetensors.numpy import save_file

    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = {LABELS[0]: json.dumps(found.labels)} if found.labels else None
    with atomic.replacing(target) as part:
        save_file(dict(found.arrays), part, metadata=metadata)


def _opened(path: Path) -> WeightFile:
    """Return the tensors of a PyTorch file, read by its unpickler that knows tensors and plain data only."""
    torch = _import_torch(path)
    harmless = [argparse.Namespace, np.dtype, *(type(np.dtype(kind)) for kind in "fdlib?")]
    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([*harmless, *names]):
            warnings.simplefilter("ignore")  # on old formats; what cannot be read is an error
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # an unpickler meets every kind with a damaged file
        raise _refusal(path, error) from None
    leaves = dict(flattened(content))
    arrays = {name: _array(path, name, leaf, torch) for name, leaf in leaves.items() if torch.is_tensor(leaf)}
    return WeightFile(arrays, _labels_of(content))


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        found = pickled.code(path)
        if found is not None:
            raise _code(path, found) from None
        raise UserError(
            f"{path}: reading {path.suffix} needs torch, once: pip install 'earkit[torch]'"
        ) from None
    return torch


def _refusal(path: Path, error: Exception) -> UserError:
    text = str(error)
    found = REFUSED.search(text)
    if found or "TorchScript" in text:
        return _code(path, found[1] if found else "a TorchScript program")
    named = pickled.code(path)  # of protocols that the careful unpickler does not read
    return _code(path, named) if named else _damaged(path, "a checkpoint of torch.save", error)


def _code(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: holds code, not only weights ({what}), which is never run: re-save its state_dict where it "
        "was trained, with torch.save(model.state_dict(), …)"
    )


def _unfit(path: Path, name: str, kind: str) -> UserError:
    return UserError(f"{path}: {name} is {kind}, a kind of array that is not read: save it as float32")


def _array(path: Path, name: str, tensor: Any, torch: Any) -> Array:
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_quantized or tensor.is_complex():
        where = "" if tensor.device.type == "cpu" else f" {tensor.device.type}"
        raise _unfit(path, name, f"{tensor.dtype} {tensor.layout}{where}")
    value = tensor.detach()
    value = value.float() if value.is_floating_point() else value
    array: Array = np.array(value.contiguous().numpy())  # a copy: several tensors may share one storage
    return array


def _labels_of(content: Any) -> tuple[str, ...]:
    """Return the names of the classes in a checkpoint's `labels`, or `label_dict` of number -> name."""
    found = (
        next((content[key] for key in LABELS if key in content), None) if isinstance(content, dict) else None
    )
    if isinstance(found, Mapping):
        try:
            numbers = {int(key): value for key, value in found.items()}
        except (TypeError, ValueError):
            return ()
        found = [numbers[key] for key in sorted(numbers)]
    return _label_names(found)


def _label_names(found: Any) -> tuple[str, ...]:
    """Return a list of strings, or the json of one, as labels; anything else is none."""
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            return ()
    if not isinstance(found, (list, tuple)) or not all(isinstance(label, str) for label in found):
        return ()
    return tuple(found[:MOST_LABELS])


def _damaged(path: Path, what: str, error: Exception) -> UserError:
    reason = " ".join(CLUTTER.sub("", str(error)).split())[:160].rstrip(". ") or type(error).__name__
    return UserError(f"{path}: not {what}, or damaged: {reason}: {CURE}")


READERS: Mapping[str, Callable[[Path], WeightFile]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    **dict.fromkeys(TORCH, _torch),
}
