"""What USB 2.0 (chapter 9.6) and CDC 1.2 with PSTN 1.2 ask of the descriptors of one CDC-ACM port."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

DEVICE, CONFIGURATION, STRING, INTERFACE, ENDPOINT, OF_CLASS = 1, 2, 3, 4, 5, 0x24


def split(configuration: bytes) -> Iterator[bytes]:
    """Yield the descriptors of a configuration."""
    while configuration:
        length = configuration[0]
        assert 2 <= length <= len(configuration), "a descriptor ends behind the configuration"
        yield configuration[:length]
        configuration = configuration[length:]


def check_device(device: bytes) -> None:
    """Check table 9-8; the class is CDC as a whole device."""
    assert (len(device), device[0], device[1]) == (18, 18, DEVICE)
    assert device[2:4] == b"\x00\x02"
    assert device[4:7] == b"\x02\x00\x00", "bDeviceClass: CDC, whose subclass and protocol are 0"
    assert device[7] in (8, 16, 32, 64)
    assert all(device[14:17]), "maker, product and serial number have strings"
    assert len(set(device[14:17])) == 3
    assert device[17] == 1


def check_configuration(configuration: bytes) -> None:
    """Check tables 9-10, 9-12, 9-13 and the functional descriptors of CDC 5.2.3."""
    parts = list(split(configuration))
    head, *rest = parts
    assert (head[0], head[1]) == (9, CONFIGURATION)
    assert int.from_bytes(head[2:4], "little") == len(configuration)
    assert head[5] == 1
    assert head[7] & 0x9F == 0x80, "bit 7 is 1, bits 4 to 0 are 0"
    assert 0 < head[8] <= 250
    interfaces = [part for part in rest if part[1] == INTERFACE]
    assert [part[2] for part in interfaces] == list(range(head[4]))
    assert all(part[0] == 9 and part[3] == 0 for part in interfaces)
    of_control, of_data = _by_interface(rest)
    _check_control(of_control)
    _check_data(of_data)
    endpoints = [part[2] for part in rest if part[1] == ENDPOINT]
    assert len(set(endpoints)) == len(endpoints)
    assert all(0 < address & 15 < 16 and not address & 0x70 for address in endpoints)


def _by_interface(rest: list[bytes]) -> list[list[bytes]]:
    starts = [i for i, part in enumerate(rest) if part[1] == INTERFACE]
    assert starts[0] == 0
    return [rest[a:b] for a, b in pairwise([*starts, len(rest)])]


def _check_control(parts: list[bytes]) -> None:
    interface, *rest = parts
    assert interface[5:7] == b"\x02\x02", "CDC, abstract control model"
    functional = [part for part in rest if part[1] == OF_CLASS]
    assert rest[: len(functional)] == functional, "class descriptors follow their interface"
    assert [part[2] for part in functional][:1] == [0], "the header comes first"
    assert all(functional[i][0] == n for i, n in enumerate((5, 5, 4, 5)))
    found = {part[2]: part for part in functional}
    assert found[0][3:5] in (b"\x10\x01", b"\x20\x01")
    assert found[1][4] == 1, "call management: the data interface"
    assert found[1][3] & ~3 == 0
    assert found[2][3] & 2, "ACM: line coding and line state, which every driver sends"
    assert found[2][3] & ~0xF == 0
    assert found[6][3:5] == b"\0\1", "union: control, data"
    endpoints = rest[len(functional) :]
    assert len(endpoints) == interface[4] == 1
    (notify,) = endpoints
    assert (notify[0], notify[1], notify[3]) == (7, ENDPOINT, 3)
    assert notify[2] & 0x80
    assert 0 < int.from_bytes(notify[4:6], "little") <= 64
    assert notify[6]


def _check_data(parts: list[bytes]) -> None:
    interface, *endpoints = parts
    assert interface[5:8] == b"\x0a\x00\x00"
    assert len(endpoints) == interface[4] == 2
    assert {part[2] >> 7 for part in endpoints} == {0, 1}
    for part in endpoints:
        assert (part[0], part[1], part[3]) == (7, ENDPOINT, 2)
        assert int.from_bytes(part[4:6], "little") in (8, 16, 32, 64), "bulk at full speed, 5.8.3"


def text(descriptor: bytes) -> str:
    """Return what a string descriptor says."""
    assert descriptor[1] == STRING
    assert descriptor[0] == len(descriptor)
    assert len(descriptor) % 2 == 0
    return descriptor[2:].decode("utf-16-le")
