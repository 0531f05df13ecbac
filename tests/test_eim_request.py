"""The runner's JSON scanner beside Python's: what it finds, how numbers come out, that no bytes harm it."""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import firmware
from firmware.compiler import toolchain

LIMIT = 32 << 20  # EAR_MESSAGE_BYTES
HOST = """
#include "linux/request.c"
static double taken[64];
void ear_request_value(uint32_t index, double value) { if (index < 64) taken[index] = value; }
double host_value(uint32_t index);
double host_value(uint32_t index) { return taken[index]; }
uint32_t host_feed(const uint8_t *bytes, uint32_t length);
uint32_t host_feed(const uint8_t *bytes, uint32_t length) { /* up to the next answer */
    for (uint32_t i = 0; i < length; i++)
        if (ear_request_feed(bytes[i])) return i + 1;
    return 0;
}
"""
CLASSIFY = ["classify", "classify_shm", "classify_continuous", "classify_continuous_shm"]
ASKS = ["hello", *CLASSIFY, "set_threshold", "set_parameter"]


class Request(ctypes.Structure):
    """ear_request_t."""

    _fields_ = (
        ("asks", ctypes.c_int),
        ("wrong", ctypes.c_char_p),
        ("has_id", ctypes.c_bool),
        ("has_number", ctypes.c_bool),
        ("id", ctypes.c_int64),
        ("number", ctypes.c_double),
        ("block", ctypes.c_double),
        ("key", ctypes.c_char * 24),
        ("values", ctypes.c_uint32),
    )


class Scanner:
    """The scanner, compiled so that undefined behaviour ends the process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        library.host_value.restype = ctypes.c_double
        library.host_feed.argtypes = (ctypes.c_char_p, ctypes.c_uint32)
        library.host_feed.restype = ctypes.c_uint32

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield a request for each answer that is due."""
        while at := self.library.host_feed(data, len(data)):
            data = data[at:]
            found = Request.in_dll(self.library, "ear_request")
            yield {
                "asks": ASKS[found.asks - 1] if found.asks else None,
                "wrong": found.wrong and found.wrong.decode(),
                "id": found.id if found.has_id else None,
                "number": found.number if found.has_number else None,
                "key": found.key.decode(),
                "block": found.block,
                "values": [self.library.host_value(i) for i in range(min(found.values, 64))],
                "count": found.values,
            }

    def begin(self) -> None:
        self.library.ear_request_begin()


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Scanner:
    folder = tmp_path_factory.mktemp("request")
    (folder / "host.c").write_text(HOST)
    flags = (*toolchain.CHECKED, "-Wconversion", "-Wno-missing-prototypes")
    toolchain.host_library(
        folder / "host.c", (firmware.ROOT, firmware.ROOT / "linux"), folder / "host.so", flags
    )
    return Scanner(ctypes.CDLL(str(folder / "host.so")))


def one(scanner: Scanner, text: str) -> dict[str, Any]:
    scanner.begin()
    (found,) = scanner.feed(text.encode())
    return found


def test_requests_are_found_however_they_come(scanner: Scanner) -> None:
    scanner.begin()
    text = '{"id":1,"hello":1}\n{"classify":[1,-2.5,3e2],"id":-7}\0 '
    text += '{"debug":true,"classify_shm":{"elements":16000},"id":3}'
    text += '{"set_threshold":{"id":4,"min_score":0.25},"id":9}{"id":5,"set_parameter":{"a":{"b":[null]}}}{}'
    pieces = [text.encode()[at : at + 3] for at in range(0, len(text), 3)]
    found = [request for piece in pieces for request in scanner.feed(piece)]
    assert [request["asks"] for request in found] == [*(ASKS[i] for i in (0, 1, 2, 5, 6)), None]
    assert [request["id"] for request in found] == [1, -7, 3, 9, 5, None]
    assert not any(request["wrong"] for request in found)
    assert found[1]["values"] == [1.0, -2.5, 300.0]
    assert (found[2]["number"], found[3]["number"], found[3]["key"], found[3]["block"]) == (
        16000,
        0.25,
        "min_score",
        4,
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"hello":1,"classify":[1]}', "one request at a time"),
        ('{"id":"1","hello":1}', "id is an integer"),
        ('{"id":1.5}', "id is an integer"),
        ('{"id":1e300}', "id is an integer"),
        ('{"id":{}}', "id is an integer"),
        ('{"hello":true}', "hello is a number"),
        ('{"hello":[1]}', "not what this request takes"),
        ('{"classify":{"elements":1}}', "not what this request takes"),
        ('{"classify_shm":[1]}', "not what this request takes"),
        ('{"classify":7}', "a number is not what this request takes"),
        ('{"classify":[1,[2]]}', "features are numbers"),
        ('{"classify":[1,"2"]}', "features are numbers"),
        ('{"classify":[null]}', "features are numbers"),
        ('{"id":1,}', "not JSON"),
        ('{"id":01}', "not JSON"),
        ('{"id":1.}', "not JSON"),
        ('{"id":-}', "not JSON"),
        ('{"id":1e}', "not JSON"),
        ('{"id":+1}', "not JSON"),
        ('{"x":tru}', "not JSON"),
        ('{"id" 1}', "not JSON"),
        ("{id:1}", "not JSON"),
        ('{"a":[1,]}', "not JSON"),
        ('{"a":[1 2]}', "not JSON"),
        ('{"a":"}","b"}', "not JSON"),
        ('{"a":' + "[" * 64 + "]" * 64 + "}", "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said_at_its_end(scanner: Scanner, text: str, wrong: str) -> None:
    assert one(scanner, text)["wrong"] == wrong
    assert [request["id"] for request in scanner.feed(b'{"id":2,"hello":1}')] == [2]


def test_what_is_no_object_is_said_once_a_line(scanner: Scanner) -> None:
    scanner.begin()
    found = list(scanner.feed(b'GET / HTTP/1.1\r\n]]\n \n{"id":8}'))
    assert [request["wrong"] for request in found] == ["not a JSON object", "not a JSON object", None]


def test_a_message_that_never_ends_is_answered_once_at_the_limit(scanner: Scanner) -> None:
    scanner.begin()
    head = b'{"id":1,"classify":['
    assert not list(scanner.feed(head))
    piece = b"12345678," * 100_000
    answers = []
    for _ in range(LIMIT // len(piece) + 3):
        answers += list(scanner.feed(piece))
    assert [answer["wrong"] for answer in answers] == ["a message has at most 33554432 bytes"]
    assert [answer["id"] for answer in scanner.feed(b'"}{][\\""]}{"id":2}')] == [2]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=30), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(
    given=st.dictionaries(st.sampled_from(["id", "x", "\\", '"', "{", *ASKS]) | st.text(), JSON, max_size=6),
    ascii=st.booleans(),
)
def test_any_json_object_is_one_request(scanner: Scanner, given: dict[str, Any], ascii: bool) -> None:  # noqa: A002
    text = json.dumps(given, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    scanner.begin()
    (found,) = scanner.feed(text)
    asked = [key for key in given if key in ASKS]
    assert found["wrong"] != "not JSON"
    if len(asked) > 1:
        assert found["wrong"]
    elif asked and not found["wrong"]:
        assert found["asks"] == asked[0]
    number = given.get("id")
    if type(number) is int and abs(number) < 9e15:
        assert found["id"] == number


@settings(max_examples=200, deadline=None)
@given(value=st.floats(-1e300, 1e300) | st.integers(-(10**30), 10**30))
@example(value=0.1)
@example(value=-32768)
@example(value=1e22)
@example(value=5e-324)
def test_numbers_are_pythons(scanner: Scanner, value: float) -> None:
    for text in (json.dumps(value), f"{value:e}", f"{value:.17g}".replace("e", "E")):
        (got,) = one(scanner, f'{{"classify":[{text}]}}')["values"]
        wanted = float(text)
        assert math.isclose(got, wanted, rel_tol=1e-13, abs_tol=1e-290)
        if abs(wanted) < 2**49 and wanted == int(wanted):
            assert got == wanted


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=200)
    | st.text('{}[]":,\\0123456789.eE+-truefalsn idhelocasy_m', max_size=200).map(str.encode)
)
def test_no_bytes_harm_it(scanner: Scanner, data: bytes) -> None:
    scanner.begin()
    list(scanner.feed(data))
    scanner.begin()
    (found,) = scanner.feed(b'{"id":3,"hello":1}')
    assert (found["id"], found["asks"], found["number"]) == (3, "hello", 1.0)
