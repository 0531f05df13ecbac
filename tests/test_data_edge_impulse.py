"""Exports of Edge Impulse: both ways to name labels, JSON and CBOR, their split, signatures, damage."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from boards.errors import UserError
from models import data
from models.data import cbor, edge_impulse

RATE = 16_000
KEY = "0123456789abcdef"


def encoded(value: Any) -> bytes:
    """Return CBOR of `value`, as RFC 8949 says; the tests' own encoder."""
    if isinstance(value, bool) or value is None:
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, bytes | str):
        raw = value.encode() if isinstance(value, str) else value
        return _head(3 if isinstance(value, str) else 2, len(raw)) + raw
    if isinstance(value, dict):
        return _head(5, len(value)) + b"".join(encoded(k) + encoded(v) for k, v in value.items())
    return _head(4, len(value)) + b"".join(map(encoded, value))


def _head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes([kind << 5 | number])
    size = next(i for i in range(4) if number < 1 << (8 << i))
    return bytes([kind << 5 | 24 + size]) + number.to_bytes(1 << size, "big")


def acquisition(values: Any, interval: float = 1000 / RATE, **more: Any) -> dict[str, Any]:
    payload = {"device_type": "T", "interval_ms": interval, "sensors": [{"name": "audio", "units": "wav"}]}
    return {
        "protected": {"ver": "v1", "alg": "HS256", "iat": 1},
        "signature": "0" * 64,
        "payload": {**payload, "values": values, **more},
    }


def signed(plain: bytes, key: str = KEY) -> bytes:
    signature = hmac.new(key.encode(), plain, hashlib.sha256).hexdigest()
    return plain.replace(b"0" * 64, signature.encode(), 1)


def tone(seed: int, count: int = RATE) -> Any:
    return np.random.default_rng(seed).integers(-9000, 9000, count).astype(np.int16)


def export(root: Path, info: bool = True) -> Path:
    """Write three clips of two classes for training and one of each for the test, in three formats."""
    files = []
    for side, takes in (("training", 3), ("testing", 1)):
        (root / side).mkdir(parents=True)
        for label in ("no", "yes"):
            for take in range(takes):
                seed = zlib.crc32(f"{side} {label} {take}".encode())
                suffix = (".wav", ".json", ".cbor")[take]
                path = root / side / f"{label}.{side}{take}{suffix}"
                values = acquisition(tone(seed).tolist())
                if suffix == ".wav":
                    soundfile.write(path, tone(seed), RATE)
                else:
                    path.write_bytes(
                        signed(json.dumps(values).encode() if suffix == ".json" else encoded(values))
                    )
                told = {"type": "label", "label": label.upper() if info else label}
                name = f"{side}/{path.name}"
                files.append({"path": name, "category": side, "label": told, "metadata": {"a": "b"}})
    if info:
        (root / "info.labels").write_text(json.dumps({"version": 1, "files": files}))
    return root


@pytest.mark.parametrize("info", [True, False])
def test_an_export_is_read_with_its_split(info: bool, tmp_path: Path) -> None:
    dataset = data.load(export(tmp_path / "ei", info))
    assert dataset.labels == (("NO", "YES") if info else ("no", "yes"))
    assert len(dataset) == 8
    train, validation, test = dataset.split()
    assert {clip.name for clip in test.clips} == {"testing/no.testing0.wav", "testing/yes.testing0.wav"}
    assert len(train) + len(validation) == 6
    assert all(clip.name.startswith("training/") for clip in (*train.clips, *validation.clips))


def test_each_format_gives_the_samples(tmp_path: Path) -> None:
    samples = tone(5, 1000)
    plain = acquisition(samples.tolist())
    listed = acquisition([[int(value)] for value in samples])
    real = acquisition((samples / 32_768).tolist())
    stored = acquisition([f"Ref-BINARY-i16 ({samples.nbytes} bytes) {'a' * 32}"])
    contents = {
        "plain.json": json.dumps(plain).encode(),
        "plain.cbor": encoded(plain),
        "listed.cbor": encoded(listed),
        "real.cbor": encoded(real),
        "stored.cbor": encoded(stored) + b"\xff" * 7 + samples.tobytes(),
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert edge_impulse.check(path) == pytest.approx(1000 / RATE)
        assert np.array_equal(edge_impulse.read_audio(path, RATE), samples), name
    assert len(edge_impulse.read_audio(tmp_path / "plain.cbor", RATE, seconds=0.01)) == 160
    assert len(edge_impulse.read_audio(tmp_path / "plain.cbor", 8000)) == 500


def test_pieces_of_one_recording_stay_where_they_were_put(tmp_path: Path) -> None:
    root = tmp_path / "ei"
    for side in ("training", "testing"):
        (root / side).mkdir(parents=True)
        for label in ("no", "yes"):
            for recording in "abc":
                number = 1 + (side == "testing")
                name = f"{label}.{recording}.wav.s{number}.wav"
                soundfile.write(root / side / name, tone(ord(recording) * number), RATE)
    dataset = data.load(root)
    assert any("pieces in training and in testing" in line for line in dataset.warnings)
    *_, test = dataset.split()
    assert len(test) == 6


def test_what_has_no_label_is_left_out(tmp_path: Path) -> None:
    root = export(tmp_path / "ei")
    info = json.loads((root / "info.labels").read_text())
    info["files"][0]["label"] = {"type": "unlabeled"}
    (root / "info.labels").write_text(json.dumps(info))
    dataset = data.load(root)
    assert len(dataset) == 7
    assert any("1 files are unlabeled" in line for line in dataset.warnings)


def test_signatures_are_checked_with_a_key_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = acquisition([1, 2, 3])
    for name, plain in (("a.json", json.dumps(values).encode()), ("a.cbor", encoded(values))):
        path = tmp_path / name
        path.write_bytes(signed(plain))
        monkeypatch.setenv(edge_impulse.KEY, KEY)
        assert edge_impulse.read_audio(path, RATE).tolist() == [1, 2, 3]
        path.write_bytes(signed(plain, "another key"))
        with pytest.raises(UserError, match="not that of EI_HMAC_KEY"):
            edge_impulse.read_audio(path, RATE)
        path.write_bytes(plain.replace(b"HS256", b"none "))
        with pytest.raises(UserError, match="not signed with HS256"):
            edge_impulse.read_audio(path, RATE)
        monkeypatch.delenv(edge_impulse.KEY)
        assert edge_impulse.read_audio(path, RATE).tolist() == [1, 2, 3]


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty.json": (b"", "not JSON"),
    "text.json": (b"hello", "not JSON"),
    "list.json": (b"[1]", "payload is missing"),
    "deep.json": (b"[" * 100_000, "not JSON"),
    "empty.cbor": (b"", "not CBOR"),
    "cut.cbor": (encoded(acquisition([1, 2, 3]))[:-2], "not CBOR"),
    "deep.cbor": (b"\x81" * 5000, "nested deeper"),
    "huge.cbor": (b"\x9b" + b"\xff" * 8, "not CBOR"),
    "axes.json": (json.dumps(acquisition([[1, 2]], sensors=[{"name": "x"}, {"name": "y"}])).encode(),
                  "2 sensors (x, y), sound has one"),
    "ragged.json": (json.dumps(acquisition([[1], [1, 2]])).encode(), "one finite number a sample"),
    "none.json": (json.dumps(acquisition([])).encode(), "one finite number a sample"),
    "nan.json": (json.dumps(acquisition([1.0, float("nan")])).encode(), "one finite number a sample"),
    "words.json": (json.dumps(acquisition(["a", "b"])).encode(), "one finite number a sample"),
    "loud.json": (json.dumps(acquisition([1, 70_000])).encode(), "reach 70000"),
    "slow.json": (json.dumps(acquisition([1, 2], 100)).encode(), "gives 10 Hz"),
    "still.json": (json.dumps(acquisition([1, 2], 0)).encode(), "interval_ms is 0"),
    "short.cbor": (encoded(acquisition(["Ref-BINARY-i16 (2000 bytes) aa"])) + b"\0" * 10, "cut short: 10 of"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_damaged_file_is_one_line(name: str, tmp_path: Path) -> None:
    content, said = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        edge_impulse.read_audio(tmp_path / name, RATE)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_cbor_or_a_value_error(content: bytes) -> None:
    try:
        _, end = cbor.decode(content)
    except ValueError:
        return
    assert 0 < end <= len(content)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_cbor_comes_back(value: Any) -> None:
    assert cbor.decode(encoded(value) + b"rest") == (value, len(encoded(value)))


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("f93c00", 1.0),
        ("fa47c35000", 100000.0),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("7f657374726561646d696e67ff", "streaming"),
        ("5f42010243030405ff", b"\1\2\3\4\5"),
        ("c11a514b67b0", 1363896240),
    ],
)
def test_examples_of_the_standard(content: str, value: Any) -> None:
    assert cbor.decode(bytes.fromhex(content))[0] == value  # RFC 8949, appendix A


SPOILT: dict[str, tuple[Callable[[Any], object], str]] = {
    "another version": (lambda info: info.update(version=2), "version"),
    "no files": (lambda info: info.pop("files"), "files"),
    "no path": (lambda info: info["files"][1].pop("path"), "files.1.path"),
    "category": (lambda info: info["files"][0].update(category="both"), "files.0.category: 'both'"),
    "outside": (lambda info: info["files"][0].update(path="../../etc/passwd.wav"), "leads out of the export"),
    "label": (lambda info: info["files"][0]["label"].update(label="a,b"), "files.0"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_damaged_list_names_the_key(name: str, tmp_path: Path) -> None:
    root = export(tmp_path / "ei")
    info = json.loads((root / "info.labels").read_text())
    spoil, said = SPOILT[name]
    spoil(info)
    (root / "info.labels").write_text(json.dumps(info))
    with pytest.raises(UserError) as error:
        data.load(root)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_without_a_label(tmp_path: Path) -> None:
    root = export(tmp_path / "ei", info=False)
    (root / "training" / "nameless.wav").write_bytes(b"")
    with pytest.raises(UserError, match="no label before a dot"):
        data.load(root)
