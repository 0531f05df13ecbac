"""Weight files: what is in them comes out by name; damaged ones and code are refused in one line."""

from __future__ import annotations

import argparse
import json
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from boards.errors import UserError
from models import weight_files

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


BROKEN = {
    "none.npz": (None, "no such file of weights"),
    "a.h5": (b"x", r"a \.safetensors, \.npz, .* or \.bin is needed, not \.h5"),
    "bare": (b"x", "not a name without an ending"),
    "empty.npz": (b"", "not an .npz file"),
    "empty.safetensors": (b"", "not a .safetensors file"),
    "magic.npz": (b"\x93NUMPY but not", "not an .npz file"),
    "huge.safetensors": (struct.pack("<Q", 1 << 62) + b"{}", "not a .safetensors file"),
    "lies.safetensors": (
        struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     ',
        "not a .safetensors file",
    ),
    "nothing.safetensors": (save({}), "holds no arrays"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    data, message = BROKEN[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        weight_files.read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_an_npz_with_objects_or_an_endless_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with pytest.raises(UserError, match=r"not an \.npz file of arrays"):
        weight_files.read(tmp_path / "objects.npz")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(tmp_path / "endless.npz", "w") as file:
        file.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(UserError, match=r"endless\.npz: "):
        weight_files.read(tmp_path / "endless.npz")


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_no_damage_crashes_it(kind: str, tmp_path: Path) -> None:
    whole = written(tmp_path, kind).read_bytes()
    damaged = tmp_path / f"damaged{kind}"

    @given(st.integers(0, len(whole) - 1), st.binary(max_size=4), st.booleans())
    @settings(max_examples=150, deadline=None)
    def check(place: int, junk: bytes, cut: bool) -> None:
        damaged.write_bytes(whole[:place] + junk + (b"" if cut else whole[place + len(junk) :]))
        reads_or_refuses(damaged)

    check()


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
        UserError, match=r"holds code, not only weights \(sys\.exit\): re-save its state_dict"
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
