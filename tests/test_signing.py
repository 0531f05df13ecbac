"""Signatures: the published vectors and another implementation against the C that verifies on the board."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import firmware
from boards.errors import UserError
from firmware.compiler import signing, toolchain

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ORDER = 2**252 + 27742317777372353535851937790883648493
VECTORS = [  # RFC 8032, 7.1: secret key, message
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", b""),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", b"\x72"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", b"\xaf\x82"),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        hashlib.sha512(b"abc").digest(),
    ),
]
SIGNATURES = [
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
]


class Verifier:
    """firmware/ed25519.c compiled for the host with undefined behaviour trapping."""

    def __init__(self, folder: Path) -> None:
        first, *rest = (firmware.ROOT / name for name in ("ed25519.c", "sha512.c", "sha256.c"))
        toolchain.host_library(first, (firmware.ROOT,), folder / "all.so", weights=rest)
        self.c = ctypes.CDLL(str(folder / "all.so"))
        self.c.ear_ed25519_verify.restype = ctypes.c_bool

    def good(self, signature: bytes, message: bytes, public: bytes) -> bool:
        key = ctypes.create_string_buffer(public + signing.minus_x(public), 64)
        return bool(self.c.ear_ed25519_verify(signature, message, len(message), key))


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    return Verifier(tmp_path_factory.mktemp("ed25519"))


@pytest.mark.parametrize(("vector", "signature"), list(zip(VECTORS, SIGNATURES, strict=True)))
def test_the_rfcs_vectors(verifier: Verifier, vector: tuple[str, bytes], signature: str) -> None:
    secret = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector[0]))
    public = secret.public_key().public_bytes_raw()
    assert verifier.good(bytes.fromhex(signature), vector[1], public)
    assert not verifier.good(bytes.fromhex(signature), vector[1] + b"\0", public)


@few
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300), data=st.data())
def test_another_implementations_signatures(
    verifier: Verifier, seed: bytes, message: bytes, data: st.DataObject
) -> None:
    secret = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = secret.public_key().public_bytes_raw(), secret.sign(message)
    assert verifier.good(signature, message, public)
    bit = data.draw(st.integers(0, 511))
    spoilt = bytearray(signature)
    spoilt[bit // 8] ^= 1 << bit % 8
    assert not verifier.good(bytes(spoilt), message, public)
    assert not verifier.good(signature, message + b"x", public)


def test_a_signature_has_one_form_only(verifier: Verifier) -> None:
    secret = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signature = secret.sign(b"message")
    more = int.from_bytes(signature[32:], "little") + ORDER  # proves the same, but RFC 8032 refuses it
    other = signature[:32] + more.to_bytes(32, "little")
    assert not verifier.good(other, b"message", secret.public_key().public_bytes_raw())


@few
@given(data=st.binary(max_size=400), cut=st.integers(0, 400))
def test_hashes_are_those_of_hashlib(verifier: Verifier, data: bytes, cut: int) -> None:
    digest = ctypes.create_string_buffer(64)
    verifier.c.ear_sha256(data, len(data), digest)
    assert digest.raw[:32] == hashlib.sha256(data).digest()
    parts = (data[:cut], data[cut:])
    runs = (ctypes.c_void_p * 4)()
    kept = [ctypes.create_string_buffer(part, len(part) or 1) for part in parts]
    for at, (part, buffer) in enumerate(zip(parts, kept, strict=True)):
        runs[2 * at], runs[2 * at + 1] = ctypes.addressof(buffer), len(part)
    verifier.c.ear_sha512(runs, 2, digest)
    assert digest.raw == hashlib.sha512(data).digest()


def test_no_point_no_key() -> None:
    with pytest.raises(ValueError, match="curve"):
        signing.minus_x(b"\2" + bytes(31))


def test_the_key_is_made_once_and_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "place", lambda: tmp_path / "earkit" / "signing.pem")
    public = signing.public()
    assert signing.public() == public
    assert signing.place().stat().st_mode & 0o777 == 0o600
    assert [path.name for path in signing.place().parent.iterdir()] == ["signing.pem"]


def test_a_file_that_is_no_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "place", lambda: tmp_path / "signing.pem")
    signing.place().write_text("nonsense")
    with pytest.raises(UserError, match=r"signing\.pem is no Ed25519 key"):
        signing.key()
    monkeypatch.setattr(signing, "place", lambda: tmp_path / "signing.pem" / "below")
    with pytest.raises(UserError, match="cannot keep the key"):
        signing.key()
