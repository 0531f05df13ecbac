"""The bundle: what it holds, what it refuses, and that nothing half-written is ever left."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from boards.errors import UserError
from models.frontend import FrontEnd
from quantize import bundle
from quantize.bundle import Bundle, Provenance, Tensor

FE = FrontEnd(frames=10)
LABELS = ("dog", "a, comma", "{brace}")
FILES = {
    bundle.MODEL: b"TFL3 int8",
    bundle.FLOAT: b"TFL3 float",
    bundle.CALIBRATION: bundle.write_npz(features=np.zeros((2, 10, 40), np.float32)),
    bundle.EVALUATION: b'{"stages": []}',
    bundle.EXPECTED: bundle.write_npz(
        inputs=np.zeros((1, 10, 40), np.int8), outputs=np.array([[1, 2, 3]], np.int8)
    ),
}


def manifest(**changes: Any) -> Bundle:
    values: dict[str, Any] = {
        "family": "panns",
        "size": "micro",
        "task": "classification",
        "labels": LABELS,
        "sample_rate": 16_000,
        "frontend": FE,
        "config": {"blocks": [{"widths": [8]}]},
        "inputs": (Tensor(name="features", shape=(1, 10, 40), scale=0.5, zero_point=3),),
        "outputs": (Tensor(name="logits", shape=(1, 3), scale=0.1, zero_point=-4),),
        "licence": "Apache-2.0",
        "provenance": Provenance(
            data="synthetic",
            data_sha256="0" * 64,
            held_out=None,
            seed=0,
            settings_sha256="1" * 64,
            git_revision=None,
            teacher="none",
            versions={"numpy": "2"},
            created="2026-01-01T00:00:00Z",
        ),
    }
    return Bundle(**{**values, **changes})


def saved(path: Path) -> Path:
    bundle.save(manifest(), FILES, path)
    return path


@pytest.mark.parametrize("name", ["b", "b.zip"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    loaded = bundle.load(path)
    assert loaded.model_dump(exclude={"files"}) == manifest().model_dump(exclude={"files"})
    assert loaded.files == {n: hashlib.sha256(d).hexdigest() for n, d in FILES.items()}
    assert loaded.model() == FILES[bundle.MODEL]
    assert loaded.frontend == FE
    np.testing.assert_array_equal(loaded.arrays(bundle.EXPECTED)["outputs"], [[1, 2, 3]])
    assert loaded.evaluation() == {"stages": []}
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]  # no temporary name is left


def test_folder_and_its_zip_say_the_same(tmp_path: Path) -> None:
    first = bundle.load(saved(tmp_path / "b"))
    bundle.zipped(first, tmp_path / "one.zip")
    bundle.zipped(first, tmp_path / "two.zip")
    assert bundle.load(tmp_path / "one.zip").model_dump() == first.model_dump()
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        record = json.loads((path / "bundle.json").read_text())
        change(record)
        (path / "bundle.json").write_text(json.dumps(record))

    return apply


def link(path: Path) -> None:
    (path / bundle.FLOAT).unlink()
    (path / bundle.FLOAT).symlink_to("/etc/hostname")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda p: (p / "bundle.json").unlink(), "no bundle.json"),
    "missing file": (lambda p: (p / bundle.MODEL).unlink(), "model.int8.tflite is missing"),
    "changed file": (lambda p: (p / bundle.MODEL).write_bytes(b"TFL3 inT8"), "SHA-256 differs"),
    "link": (link, "not a plain file"),
    "truncated json": (lambda p: (p / "bundle.json").write_text('{"schema_version": 1,'), "not JSON"),
    "json list": (lambda p: (p / "bundle.json").write_text("[1]"), "must be a JSON object"),
    "not utf-8": (lambda p: (p / "bundle.json").write_bytes(b"\xff\xfe{}"), "not JSON"),
    "deep json": (lambda p: (p / "bundle.json").write_text("[" * 200_000), "not JSON"),
    "newer schema": (edit(lambda r: r.update(schema_version=2)), "schema version 2, this earkit reads 1"),
    "no schema": (edit(lambda r: r.pop("schema_version")), "schema version None"),
    "unknown key": (edit(lambda r: r.update(colour="red")), "colour"),
    "wrong type": (edit(lambda r: r.update(labels=3)), "labels"),
    "same labels": (edit(lambda r: r.update(labels=["a", "a", "b"])), "labels must be printable and differ"),
    "line break in a label": (edit(lambda r: r.update(labels=["a\n", "b", "c"])), "printable"),
    "label count": (edit(lambda r: r.update(labels=["a", "b"])), "does not fit 2 labels"),
    "input shape": (edit(lambda r: r["inputs"][0].update(shape=[1, 10, 41])), "does not fit the front end"),
    "zero scale": (edit(lambda r: r["inputs"][0].update(scale=0)), "scale"),
    "NaN scale": (edit(lambda r: r["inputs"][0].update(scale=float("nan"))), "bundle.json"),
    "zero-point": (edit(lambda r: r["inputs"][0].update(zero_point=128)), "zero_point"),
    "sample rate": (edit(lambda r: r.update(sample_rate=8_000)), "sample_rate is 8000"),
    "front end range": (edit(lambda r: r["frontend"].update(fft=1 << 40)), "frontend"),
    "front end key": (edit(lambda r: r["frontend"].update(size=1)), "unknown size"),
    "path as a file": (
        edit(lambda r: r["files"].update({"../../etc/passwd": "0" * 64})),
        "not a file of a bundle",
    ),
    "absolute path": (edit(lambda r: r["files"].update({"/etc/passwd": "0" * 64})), "not a file of a bundle"),
    "manifest lacks a file": (edit(lambda r: r["files"].pop("eval.json")), "eval.json is missing"),
    "bad hash": (edit(lambda r: r["files"].update({"eval.json": "zz"})), "eval.json"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_folder_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    breaking, message = BROKEN[case]
    path = saved(tmp_path / "b")
    breaking(path)
    with pytest.raises(UserError, match=message) as caught:
        bundle.load(path)
    assert "\n" not in str(caught.value)
    if (path / "bundle.json").exists():  # it was a bundle: a second try may replace it
        assert bundle.save(manifest(), FILES, path).files.keys() == FILES.keys()


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match="neither a folder nor a file"):
            bundle.load(path)


def rezip(path: Path, *items: tuple[zipfile.ZipInfo, bytes], without: str = "") -> None:
    with zipfile.ZipFile(path) as archive:
        old = [(item, archive.read(item)) for item in archive.infolist() if item.filename != without]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for item, data in (*old, *items):
            archive.writestr(item, data)


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    item = zipfile.ZipInfo(name)
    item.external_attr = mode << 16
    return item


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "traversal": (lambda p: rezip(p, (entry("../evil"), b"x")), "has a path"),
    "backslash": (lambda p: rezip(p, (entry("..\\evil"), b"x")), "has a path"),
    "absolute": (lambda p: rezip(p, (entry("/evil"), b"x")), "has a path"),
    "link": (
        lambda p: rezip(p, (entry("eval.json", stat.S_IFLNK | 0o777), b"/etc/passwd"), without="eval.json"),
        "is a link",
    ),
    "many": (lambda p: rezip(p, *((entry(f"f{i}"), b"") for i in range(100))), "at most 64"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-40]), "neither"),
    "empty": (lambda p: p.write_bytes(b""), "neither"),
    "text": (lambda p: p.write_text("hello"), "neither"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_zip_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    breaking, message = HOSTILE[case]
    path = saved(tmp_path / "b.zip")
    breaking(path)
    with pytest.raises(UserError, match=message) as caught:
        bundle.load(path)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["b.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "b.zip")
    rezip(path, (entry("eval.json"), b"{}"))
    with pytest.raises(UserError, match="different names"):
        bundle.load(path)


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = saved(tmp_path / "b.zip")
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x01\x02")  # the last entry of the table of contents claims 3.9 GB
    raw[at + 24 : at + 28] = struct.pack("<I", 0xE8000000)
    path.write_bytes(raw)
    with pytest.raises(UserError, match="unpacks to"):
        bundle.load(path)


@given(st.integers(0, 10_000), st.integers(1, 255))
@example(1850, 2)  # an offset before the start of the file
@settings(max_examples=60, deadline=None)
def test_no_flipped_byte_of_a_zip_goes_unnoticed_or_crashes(
    tmp_path_factory: Any, where: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "b.zip"
    before = saved(path)
    raw = bytearray(before.read_bytes())
    raw[where % len(raw)] ^= flip
    path.write_bytes(raw)
    try:
        loaded = bundle.load(path)
    except UserError:
        return
    # a time stamp or another field that carries nothing of the bundle
    assert {name: loaded.read(name) for name in loaded.files} == FILES


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_random_bytes_are_no_npz_and_no_crash(data: bytes) -> None:
    with pytest.raises(UserError):
        bundle.read_npz(data, "x.npz")


def hostile_npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b" " * (117 - len(header)) + b"\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("inputs.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "not what the file holds"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", "not what the file holds"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", "not a clean"),
        ("__import__('os').system('true')", "not a clean"),
    ],
)
def test_npz_takes_no_objects_and_no_lies(header: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bundle.read_npz(hostile_npy(header), "x.npz")


def test_a_file_changed_after_loading_is_noticed(tmp_path: Path) -> None:
    loaded = bundle.load(saved(tmp_path / "b"))
    (tmp_path / "b" / bundle.MODEL).write_bytes(b"TFL3 evil")
    with pytest.raises(UserError, match="SHA-256"):
        loaded.model()


@pytest.mark.parametrize("name", ["b", "b.zip"])
def test_an_interrupted_save_leaves_the_old_bundle_whole(tmp_path: Path, name: str, monkeypatch: Any) -> None:
    path = saved(tmp_path / name)
    before = bundle.load(path).model_dump()
    real = os.replace if name.endswith("zip") else os.rename
    calls = []

    def interrupted(source: Any, target: Any) -> None:
        calls.append(target)
        if Path(target) == path and ".part" in str(source):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace" if name.endswith("zip") else "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bundle.save(manifest(size="lite"), FILES, path)
    assert calls
    monkeypatch.undo()
    assert bundle.load(path).model_dump() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_machine_that_stopped_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "b")
    path.rename(tmp_path / ".b.old")
    assert bundle.load(path).family == "panns"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_something_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(UserError, match="is not a bundle"):
        bundle.save(manifest(), FILES, tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"
    with pytest.raises(UserError, match="no such bundle"):
        bundle.load(tmp_path / "nothing")


def test_save_refuses_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected.npz is missing"):
        bundle.save(manifest(), {n: d for n, d in FILES.items() if n != bundle.EXPECTED}, tmp_path / "b")
    with pytest.raises(UserError, match="not a file of a bundle"):
        bundle.save(manifest(), {**FILES, "x.py": b""}, tmp_path / "b")
    assert not any(tmp_path.iterdir())


def test_expected_inputs_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    x, y = np.zeros((3, 2, 5), np.int8), np.ones((3, 2), np.int8)
    for arrays in (
        {"inputs": x},
        {"outputs": y},
        {"inputs": x[:0], "outputs": y[:0]},
        {"inputs": x, "outputs": y[:2]},
        {"inputs": x.astype(float), "outputs": y},
        {"inputs": np.int8(1), "outputs": np.int8(1)},
        {"inputs": x[:, :, 1:], "outputs": y},
    ):
        files = {**FILES, bundle.EXPECTED: bundle.write_npz(**arrays)}
        made = bundle.save(manifest(), files, tmp_path / "b")
        with pytest.raises(UserError, match=r"expected.npz does not fit the model: make the bundle again"):
            made.expected((1, 2, 5))
    files = {**FILES, bundle.EXPECTED: bundle.write_npz(inputs=x, outputs=y)}
    made = bundle.save(manifest(), files, tmp_path / "b")
    assert [array.shape for array in made.expected((1, 2, 5))] == [(3, 1, 2, 5), (3, 2)]
    assert np.array_equal(made.expected()[0], x)


def test_bundle_needs_no_training_package() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('keras', 'tensorflow', 'onnx', 'torch')));"
        "import quantize.bundle, quantize.evaluate; print('whole')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "whole\n"
