"""Weight files: what is in them comes out by name; damaged ones and code are refused in one line."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from boards.errors import UserError
from models import checkpoint, npz, pickled, weight_files

STATE = {"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bn.num_batches_tracked": np.array(7)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _name: str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="needs the extra torch")


def same(found: Any, wanted: Any) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def written(folder: Path, kind: str) -> Path:
    path = folder / f"weights{kind}"
    if kind == ".npz":
        np.savez(path, **STATE)
    else:
        save_file(STATE, path)
    return path


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_arrays_come_back(kind: str, tmp_path: Path) -> None:
    found = weight_files.read(written(tmp_path, kind)).arrays
    same(dict(sorted(found.items(), reverse=True)), STATE)


def test_half_floats_of_16_bits_become_floats(tmp_path: Path) -> None:
    ones = np.array([0x3F80, 0xC000], "<u2")  # 1 and -2 in bfloat16
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + ones.tobytes())
    same(weight_files.read(path).arrays, {"w": np.array([1, -2], np.float32)})


def test_wrappers_and_what_training_kept_go() -> None:
    content = {
        "optimizer": {"state": {0: {"exp_avg": 1.0}}},
        "model": {"module": {"a": [2.0, {"b": 3.0}]}},
        "epoch": 4,
    }
    found = dict(weight_files.flattened(content))
    assert found == {"model.module.a.0": 2.0, "model.module.a.1.b": 3.0}
    assert list(weight_files.unwrapped({k: np.array(v) for k, v in found.items()})) == ["a.0", "a.1.b"]
    two = {"model.a": np.array(1), "ema.a": np.array(1)}
    assert weight_files.unwrapped(two) == two
    assert list(weight_files.unwrapped({"weights": np.array(1)})) == ["weights"]


def test_rings_and_depths_end() -> None:
    ring: dict[str, Any] = {"a": 1}
    ring["self"] = ring
    assert dict(weight_files.flattened(ring)) == {"a": 1}
    deep: Any = 5
    for _ in range(20_000):
        deep = [deep]
    assert [leaf for _, leaf in weight_files.flattened(deep)] == [5]


def test_names_of_classes_come_along(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors", metadata={"labels": '["dog", "cat"]'})
    assert weight_files.read(tmp_path / "w.safetensors").labels == ("dog", "cat")
    np.savez(tmp_path / "w.npz", **STATE, labels=np.array(["dog", "cat"]))
    found = weight_files.read(tmp_path / "w.npz")
    assert found.labels == ("dog", "cat")
    assert "labels" not in found.arrays
    save_file(STATE, tmp_path / "w.safetensors", metadata={"labels": "[1, {"})
    assert weight_files.read(tmp_path / "w.safetensors").labels == ()


def reads_or_refuses(path: Path) -> None:
    """Read `path`: it may be refused, in one line; any other error goes on."""
    try:
        weight_files.read(path)
    except UserError as error:
        line = str(error)
        if "\n" in line:
            raise ValueError(line) from error


def tensors(header: Any) -> bytes:
    """Return a .safetensors of 16 bytes, with name -> (dtype, count, start, end) or bytes as header."""
    if isinstance(header, dict):
        keys = ("dtype", "shape", "data_offsets")
        header = json.dumps(
            {
                n: dict(zip(keys, (kind, [count], place), strict=True))
                for n, (kind, count, *place) in header.items()
            }
        ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)


def archive(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zipped(name: str, content: bytes, how: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as file:
        file.writestr(name, content)
    return stream.getvalue()


BROKEN = {
    "none.npz": (None, "no such file of weights"),
    "a.h5": (b"x", r"a \.safetensors, \.npz, .* or \.bin is needed, not \.h5"),
    "bare": (b"x", "not a name without an ending"),
    "empty.npz": (b"", r"is empty \(0 bytes\): download or save it again"),
    "empty.safetensors": (b"", r"is empty \(0 bytes\)"),
    "magic.npz": (b"\x93NUMPY but not", "not an .npz file of arrays, or damaged: it is one .npy array"),
    "pickle.npz": (pickle.dumps({"w": 1}), "it is a pickle, which may run code"),
    "page.npz": (b"\n<!DOCTYPE html><html>", "is 22 bytes of a web page, not the weights"),
    "page.pth": (b"<HTML><body>", "is 12 bytes of a web page"),
    "pointer.bin": (b"version https://git-lfs.github.com/spec/v1\noid", "`git lfs pull` brings them"),
    "huge.safetensors": (struct.pack("<Q", 1 << 62) + b"{}", "not a .safetensors file"),
    "lies.safetensors": (
        struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     ',
        "not a .safetensors file",
    ),
    "nothing.safetensors": (save({}), "holds no arrays of numbers, so no weights"),
    "control.safetensors": (save({"w\n\x1b[31m": np.ones(1)}), r"an array with the name 'w\\n\\x1b"),
    "text.safetensors": (tensors(b"no json at all"), "not a .safetensors file.*: download or save it again"),
    "beyond.safetensors": (tensors({"w": ("F32", 9, 0, 36)}), "not a .safetensors file, or damaged"),
    "overlap.safetensors": (
        tensors({"w": ("F32", 4, 0, 16), "v": ("F32", 4, 0, 16)}),
        "not a .safetensors file, or damaged: .*offset",
    ),
    "eighth.safetensors": (tensors({"w": ("F8_E4M3", 16, 0, 16)}), "w is F8_E4M3, .* save it as float32"),
    "complex.safetensors": (tensors({"w": ("C64", 2, 0, 16)}), "w is C64, .* save it as float32"),
    "complex.npz": (archive({"w": np.ones(3, complex)}), "w is complex128, .* save it as float32"),
    "half.npz": (archive({"w": np.ones(3, "V2")}), r"w is \|V2, .* save it as float32"),  # as of bfloat16
    "words.npz": (archive({"w": np.array(["a"])}), "holds no arrays of numbers"),
    "objects.npz": (archive({"w": np.array([{}], object)}), "Python objects, a pickle that may run code"),
    "torch.npz": (zipped("model/data.pkl", b"x"), r"it is a file of PyTorch, whose ending is \.pt"),
    "readme.npz": (zipped("readme.txt", b"hello"), "holds no arrays of numbers"),
    "header.npz": (zipped("w.npy", b"\x93NUMPY\x01\x00\x05\x00(((((" + b"\n"), "not an .npz file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    data, message = BROKEN[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        weight_files.read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_an_endless_array_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "endless.npz"
    for count in (10**15, 10**30):
        header = (
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}".ljust(117).encode() + b"\n"
        )
        path.write_bytes(zipped("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header))
        with pytest.raises(UserError, match=r"endless\.npz: not an \.npz file of arrays, or damaged"):
            weight_files.read(path)
    path.write_bytes(zipped("a.npy", bytes(1 << 20), zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(os, "sysconf", lambda _name: 512)  # a machine of 256 KB
    with pytest.raises(UserError, match="it says it holds more than this machine's memory"):
        weight_files.read(path)


def test_a_folder_and_what_nobody_may_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.npz").mkdir()
    with pytest.raises(UserError, match=r"w\.npz: is a folder; a \.safetensors"):
        weight_files.read(tmp_path / "w.npz")

    def refuse(path: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    path = written(tmp_path / "w.npz", ".safetensors")
    monkeypatch.setattr(Path, "open", refuse)
    for read in (weight_files.read, lambda path: npz.read(path, "")):
        with pytest.raises(UserError, match=r"weights\.safetensors: cannot be read: Permission denied"):
            read(path)


COMPRESSED = [
    pytest.param(zipped("w.npy", archive({"w": np.arange(99.0)})[34:], how), ".npz", id=f"npz-{how}")
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
]


@pytest.mark.parametrize(
    ("whole", "kind"),
    [
        pytest.param(archive(STATE), ".npz", id="npz"),
        *COMPRESSED,
        pytest.param(save(STATE), ".safetensors", id="safetensors"),
    ],
)
def test_no_damage_crashes_it(whole: bytes, kind: str, tmp_path: Path) -> None:
    damaged = tmp_path / f"damaged{kind}"

    @given(st.integers(0, len(whole) - 1), st.binary(max_size=4), st.booleans())
    @settings(max_examples=100, deadline=None)
    def check(place: int, junk: bytes, cut: bool) -> None:
        damaged.write_bytes(whole[:place] + junk + (b"" if cut else whole[place + len(junk) :]))
        reads_or_refuses(damaged)
        if kind == ".npz":
            with contextlib.suppress(checkpoint.CheckpointError):
                checkpoint.read(damaged)

    check()


class Order:
    """Runs a command where a pickle of it is loaded with trust."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("packed", [False, True])
def test_code_is_found_without_torch_and_not_run(
    protocol: int, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    content = pickle.dumps({"a": "b", "w": [Order(tmp_path / "ran")], "c": "d"}, protocol)
    path = tmp_path / "w.pt"
    path.write_bytes(zipped("w/data.pkl", content) if packed else content)
    with pytest.raises(UserError, match=r"holds code, not only weights \(posix\.mkdir\), which is never run"):
        weight_files.read(path)
    assert not (tmp_path / "ran").exists()
    harmless = pickle.dumps(OrderedDict(w=np.float64(1)), protocol)
    for data in (harmless, content[:9], b"\x80\x02" + bytes(99), zipped("w/data", content)):
        path.write_bytes(data)
        assert pickled.code(path) is None


def test_without_torch_its_files_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pt").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"needs torch, once: pip install 'earkit\[torch\]'"):
        weight_files.read(tmp_path / "w.pt")


def test_torch_files_are_converted_once(
    torch: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {name: torch.tensor(value) for name, value in STATE.items()}
    state["half"] = torch.ones(2, dtype=torch.bfloat16)
    content = {
        "model": {"module": state},
        "optimizer": {"state": {0: torch.ones(3)}},
        "args": argparse.Namespace(rate=0.1),
        "best": np.float64(0.5),
        "label_dict": {"1": "cat", "0": "dog"},
    }
    path = tmp_path / "w.pth"
    torch.save(content, path)
    wanted = {**STATE, "half": np.ones(2, np.float32)}
    for again in (False, True):
        if again:
            monkeypatch.setitem(sys.modules, "torch", None)
        found = weight_files.read(path)
        same({name: found.arrays[name] for name in wanted}, wanted)
        assert len(found.arrays) == len(wanted)
        assert found.labels == ("dog", "cat")
    (kept,) = cache.iterdir()
    assert kept.suffix == ".safetensors"
    kept.write_bytes(b"damaged")
    monkeypatch.undo()
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _name: str(cache.parent))
    assert len(weight_files.read(path).arrays) == len(wanted)


class Code:
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_torch_file_is_named_and_not_run(torch: Any, tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "w.ckpt"
    torch.save({"model": {"w": torch.ones(2)}, "x": Code()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        UserError, match=r"holds code, not only weights \(sys\.exit\), which is never run: re-save its state"
    ):
        weight_files.read(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(UserError, match=r"holds code.*\(torch\.nn\.modules\.linear\.Linear\)"):
        weight_files.read(path)


def test_damaged_torch_files_are_refused_in_one_line(torch: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    torch.save({"w": torch.ones(20)}, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    pieces = [b"", b"hello", whole[: len(whole) // 2]]
    for _ in range(60):
        spoilt = bytearray(whole)
        spoilt[rng.integers(len(whole))] = rng.integers(256)
        pieces.append(bytes(spoilt[: None if rng.random() < 0.7 else rng.integers(len(whole))]))
    for piece in pieces:
        path.write_bytes(piece)
        reads_or_refuses(path)
