"""UF2 and Intel HEX: blocks and records as their specifications say, and damaged ones refused."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boards import flashing
from boards.errors import UserError
from boards.flashing import Uf2
from kit.flash import intel_hex, uf2_file

RP2040 = 0xE48BFF56
OFFICIAL = {  # uf2families.json of github.com/microsoft/uf2
    "rp2040": 0xE48BFF56,
    "rp2350-arm-s": 0xE48BFF59,
    "nrf52840": 0xADA52840,
    "samd21": 0x68ED2B88,
    "samd51": 0x55114460,
    "stm32f4": 0x57755A57,
    "esp32s3": 0xC47E5767,
}


def test_families_are_the_official_ones() -> None:
    assert OFFICIAL == flashing.UF2_FAMILIES
    assert Uf2.model_fields["family"].annotation.__args__ == tuple(OFFICIAL)  # type: ignore[union-attr]


def test_a_block_is_as_the_specification_says() -> None:
    file = uf2_file.pack(bytes(range(256)) + b"end", 0x10000000, RP2040)
    assert len(file) == 1024
    for number, block in enumerate((file[:512], file[512:])):
        first, second, flags, address, count, index, total, family = struct.unpack("<8I", block[:32])
        assert (first, second, flags, family) == (0x0A324655, 0x9E5D5157, 0x2000, RP2040)
        assert block[:4] == b"UF2\n"
        assert (address, count, index, total) == (0x10000000 + 256 * number, 256, number, 2)
        assert struct.unpack("<I", block[508:]) == (0x0AB16F30,)
    assert file[32 : 32 + 256] == bytes(range(256))
    assert file[512 + 32 : 512 + 32 + 256] == b"end".ljust(256, b"\xff")


@given(data=st.binary(min_size=1, max_size=2000), page=st.integers(0, 2**24 - 1))
def test_what_is_packed_comes_back(data: bytes, page: int) -> None:
    found = uf2_file.unpack(uf2_file.pack(data, page * 256, RP2040), RP2040)
    assert list(found) == [page * 256 + at for at in range(0, len(data), 256)]
    whole_of_it = b"".join(found.values())
    assert whole_of_it[: len(data)] == data
    assert set(whole_of_it[len(data) :]) <= {0xFF}


@given(st.data())
def test_damaged_files_are_refused_or_harmless(data: st.DataObject) -> None:
    """A flipped bit in what says where data goes is seen, or leaves every other byte in its place."""
    content = bytes(range(256)) * 3
    file = bytearray(uf2_file.pack(content, 0x10000000, RP2040))
    bit = data.draw(st.integers(0, len(file) * 8 - 1))
    place = bit // 8 % 512
    file[bit // 8] ^= 1 << bit % 8
    if 32 <= place < 508 or 8 <= place < 12:  # data itself, and flags that mean nothing here
        return
    try:
        found = uf2_file.unpack(bytes(file), RP2040)
    except UserError as error:
        said = str(error)
        assert said.startswith("UF2: ")
        assert "\n" not in said
        return
    assert 12 <= place < 20, "only address and count may change the meaning unseen"
    assert len(found) == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: b"", "0 bytes"),
        (lambda file: file[:-1], "1535 bytes are no whole number"),
        (lambda file: file[:512] + file[1024:], "2 blocks for family 0xe48bff56, not all of one file"),
        (lambda file: file + file[:512], "block 3 lies over another at 0x10000000"),
        (lambda file: b"X" + file[1:], "block 0 is damaged"),
        (lambda file: file[:1535] + b"X", "block 2 is damaged"),
        (lambda file: file[:16] + struct.pack("<I", 477) + file[20:], "block 0 is damaged"),
        (lambda file: file.replace(struct.pack("<I", RP2040), bytes(4)), "0 blocks for family"),
    ],
)
def test_files_that_are_not_whole_are_named(spoil: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        uf2_file.unpack(spoil(uf2_file.pack(bytes(700), 0x10000000, RP2040)), RP2040)


def test_blocks_of_another_family_are_left_out() -> None:
    ours, theirs = uf2_file.pack(b"a" * 256, 0, RP2040), uf2_file.pack(b"b" * 256, 0, 0xADA52840)
    assert uf2_file.unpack(theirs + ours, RP2040) == {0: b"a" * 256}


@given(data=st.binary(min_size=1, max_size=200), address=st.integers(0, 2**32 - 300) | st.just(0x0800FFF0))
def test_intel_hex_means_its_data(data: bytes, address: int) -> None:
    memory, upper = {}, 0
    lines = intel_hex.pack(data, address).decode("ascii").split("\r\n")
    assert lines[-2:] == [":00000001FF", ""]
    for line in lines[:-2]:
        assert line[0] == ":"
        record = bytes.fromhex(line[1:])
        count, offset, kind = record[0], int.from_bytes(record[1:3], "big"), record[3]
        assert sum(record) % 256 == 0
        assert len(record) == count + 5
        assert offset + count <= 0x10000
        if kind == 4:
            upper = int.from_bytes(record[4:6], "big") << 16
        else:
            memory |= {upper + offset + at: byte for at, byte in enumerate(record[4:-1])}
    assert memory == {address + at: byte for at, byte in enumerate(data)}
