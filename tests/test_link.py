"""The link: published vectors, the C end against the Python end, and a line with every fault."""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import firmware
from firmware.compiler import toolchain
from kit import link
from kit.fake_link import FakeLink, Faults, FaultyWire

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
messages = st.lists(st.binary(min_size=4, max_size=link.BODY), min_size=1, max_size=4)
SESSION = 7
HELLO = link.encode(link.HELLO, 0, 0, 0, struct.pack("<II", link.VERSION, SESSION))


def framed(sequence: int, body: bytes, session: int = SESSION) -> bytes:
    """Return a message as a frame."""
    return link.encode(link.DATA, sequence, 0, 0, body, session)


class DeviceEnd:
    """firmware/link.c compiled for the host with undefined behaviour trapping."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._c, self._buffer = library, ctypes.create_string_buffer(1 << 16)
        self._c.host_say.restype = ctypes.c_bool
        self._c.host_init()

    def feed(self, data: bytes, *, busy: bool = False) -> None:
        (self._c.host_feed_busy if busy else self._c.host_feed)(data, len(data))

    def waiting(self) -> int:
        return int(self._c.host_waiting())

    def say(self, data: bytes) -> bool:
        return bool(self._c.host_say(data, len(data)))

    def said(self) -> bytes:
        length = self._c.host_said(self._buffer)
        return self._buffer.raw[:length]

    def heard(self) -> list[bytes]:
        length = self._c.host_heard(self._buffer)
        data, found = self._buffer.raw[:length], []
        while data:
            size = int.from_bytes(data[:2], "little")
            found.append(data[2 : 2 + size])
            data = data[2 + size :]
        return found


class DeviceWire:
    """The C end as a wire: what is written is heard, each message is echoed as an answer."""

    name, live = "C end", False

    def __init__(self, end: DeviceEnd) -> None:
        self.end = end
        self.answers: list[bytes] = []

    def read(self, timeout: float) -> bytes:
        if self.answers and self.end.say(self.answers[0]):
            self.answers.pop(0)
        return self.end.said()

    def write(self, data: bytes) -> None:
        self.end.feed(data)
        self.answers += self.end.heard()

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    out = tmp_path_factory.mktemp("link") / "link.so"
    toolchain.host_library(Path(__file__).with_name("link_host.c"), (firmware.ROOT,), out)
    return ctypes.CDLL(str(out))


@pytest.fixture
def end(library: ctypes.CDLL) -> DeviceEnd:
    return DeviceEnd(library)


@pytest.mark.parametrize(
    ("plain", "coded"),
    [  # Cheshire and Baker 1999, and the usual edge cases around 254
        (b"", "01"),
        (b"\0", "0101"),
        (b"\0\0", "010101"),
        (b"\x11\x22\0\x33", "0311220233"),
        (b"\x11\x22\x33\x44", "0511223344"),
        (b"\x11\0\0\0", "0211010101"),
        (bytes(range(1, 255)), "ff" + bytes(range(1, 255)).hex() + "01"),
        (bytes(range(1, 256)), "ff" + bytes(range(1, 255)).hex() + "02ff"),
    ],
)
def test_cobs_vectors(plain: bytes, coded: str) -> None:
    assert link.cobs(plain) == bytes.fromhex(coded)
    assert link.uncobs(bytes.fromhex(coded)) == plain


@few
@given(st.binary(max_size=1200))
def test_cobs_turns_round_and_holds_no_zero(data: bytes) -> None:
    coded = link.cobs(data)
    assert 0 not in coded
    assert link.uncobs(coded) == data


@few
@given(st.binary(max_size=600))
def test_uncobs_takes_anything(data: bytes) -> None:
    found = link.uncobs(data)
    assert found is None or len(found) <= len(data)


@few
@given(bodies=messages, noise=st.binary(max_size=50), data=st.data())
def test_c_hears_what_python_says(
    library: ctypes.CDLL, bodies: list[bytes], noise: bytes, data: st.DataObject
) -> None:
    end = DeviceEnd(library)
    frames = [framed(i, body) for i, body in enumerate(bodies)]
    stream = noise + b"\0" + HELLO + b"".join(frame * data.draw(st.integers(1, 2)) for frame in frames)
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        end.feed(stream[:cut])
        stream = stream[cut:]
    assert end.heard() == bodies


@few
@given(body=st.binary(max_size=link.BODY - 4))
def test_python_hears_what_c_says(library: ctypes.CDLL, body: bytes) -> None:
    end = DeviceEnd(library)
    end.feed(HELLO)
    assert end.say(body)
    hello, answer = link.Decoder(SESSION).feed(end.said())
    assert hello.kind == link.HELLO
    assert struct.unpack("<4I", hello.body) == (link.VERSION, SESSION, link.BODY, 1)
    assert (answer.kind, answer.body) == (link.DATA, b"\x81\0\0\0" + body)


@few
@given(st.lists(st.binary(max_size=700), max_size=6))
def test_no_bytes_harm_either_parser(library: ctypes.CDLL, pieces: list[bytes]) -> None:
    end, decoder = DeviceEnd(library), link.Decoder(SESSION)
    for piece in pieces:
        end.feed(piece)
        decoder.feed(piece)
    assert end.heard() == []
    end.said()
    end.feed(b"\0" + HELLO + framed(0, b"after"))
    assert end.heard() == [b"after"]
    assert [frame.kind for frame in decoder.feed(b"\0" + end.said())] == [link.HELLO, link.ACK]


@few
@given(at=st.integers(0, 30), flip=st.integers(1, 255))
def test_a_damaged_frame_is_refused(library: ctypes.CDLL, at: int, flip: int) -> None:
    frame = bytearray(framed(0, b"damaged on its way here"))
    frame[at] ^= flip
    end = DeviceEnd(library)
    end.feed(HELLO + bytes(frame))
    assert end.heard() == []


def test_credits_bound_what_the_board_takes(end: DeviceEnd) -> None:
    frames = [framed(i, b"body") for i in range(6)]
    end.feed(HELLO + b"".join(frames), busy=True)
    assert end.waiting() == 4
    said = link.Decoder(SESSION).feed(end.said())
    assert [(frame.kind, frame.acknowledge, frame.credit) for frame in said] == [
        (link.HELLO, 0, 4),
        (link.ACK, 4, 0),
        (link.ACK, 4, 0),
    ]
    end.feed(b"")
    end.feed(frames[4] + frames[5])
    assert len(end.heard()) == 6


def test_an_old_session_is_forgotten(end: DeviceEnd) -> None:
    end.feed(HELLO + framed(0, b"first"))
    end.feed(link.encode(link.HELLO, 0, 0, 0, struct.pack("<II", link.VERSION, 8)))
    end.feed(framed(1, b"stale", 8) + framed(0, b"fresh", 8))
    assert end.heard() == [b"first", b"fresh"]


def test_a_repeated_hello_forgets_nothing(end: DeviceEnd) -> None:
    end.feed(HELLO + framed(0, b"first") + HELLO + framed(1, b"next"))
    assert end.heard() == [b"first", b"next"]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("far", ["c", "python"])
def test_every_message_once_and_in_order_over_a_bad_line(far: str, seed: int, library: ctypes.CDLL) -> None:
    wire: link.Wire = (
        DeviceWire(DeviceEnd(library)) if far == "c" else FakeLink(lambda m: [b"\x81\0\0\0" + m])
    )
    under_test = link.Link(FaultyWire(wire, Faults(loss=0.1, damage=0.1, repeat=0.1, noise=0.1), seed))
    under_test.connect()
    for number in range(300):  # more than the sequence numbers
        message = struct.pack("<I", number) + bytes(number)
        under_test.send(message)
        assert under_test.receive() == b"\x81\0\0\0" + message


def test_messages_are_pipelined_within_the_credits() -> None:
    heard: list[bytes] = []

    def listen(message: bytes) -> list[bytes]:
        heard.append(message)
        return []

    under_test = link.Link(FakeLink(listen))
    under_test.connect()
    sent = [struct.pack("<I", i) for i in range(50)]
    for message in sent:
        under_test.send(message)
    under_test.flush()
    assert heard == sent


class Scripted:
    """A wire that says the same whatever it hears."""

    name, live = "scripted", False

    def __init__(self, says: bytes) -> None:
        self.says = says

    def read(self, timeout: float) -> bytes:
        return self.says

    def write(self, data: bytes) -> None:
        """Hear nothing."""

    def close(self) -> None:
        """Nothing to give back."""


def test_silence_garbage_and_a_late_answer_are_told_apart() -> None:
    with pytest.raises(link.NoAnswerError, match=r"does not answer.*earkit flash"):
        link.Link(Scripted(b"")).connect()
    with pytest.raises(link.GarbageError, match="68 65 6c 6c 6f"):
        link.Link(Scripted(b"hello\n")).connect()
    with pytest.raises(link.GarbageError, match="55 55 55"):
        link.Link(Scripted(b"\x55\x55\x55\0")).connect()
    mute = link.Link(FakeLink(lambda _: []))
    mute.connect()
    mute.send(b"question")
    with pytest.raises(link.NoAnswerError, match="no result"):
        mute.receive()


def test_a_live_line_is_given_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Scripted):
        live = True

    with pytest.raises(link.NoAnswerError, match="within 0 s"):
        link.Link(Slow(b"")).connect(patience=0.05)


def test_another_version_is_named() -> None:
    class Other(FakeLink):
        def read(self, timeout: float) -> bytes:
            frames = link.Decoder(SESSION).feed(super().read(timeout))
            bodies = [struct.pack("<I", 9) + frame.body[4:] for frame in frames if frame.kind == link.HELLO]
            return b"".join(link.encode(link.HELLO, 0, 0, 4, body) for body in bodies)

    with pytest.raises(link.LinkError, match="version 9"):
        link.Link(Other(lambda _: [])).connect()


@few
@given(
    nonces=st.lists(st.integers(0, 255), min_size=1, max_size=8),
    spoils=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 2), st.integers(0, 255)), max_size=6),
)
def test_both_parsers_take_and_refuse_the_same_frames(
    library: ctypes.CDLL, nonces: list[int], spoils: list[tuple[int, int, int]]
) -> None:
    end, decoder = DeviceEnd(library), link.Decoder(SESSION)
    end.feed(HELLO)
    end.said()
    stream = bytearray(b"".join(link.encode(link.PROBE, n, 0, 0, b"", SESSION) for n in nonces))
    for place, way, byte in spoils:
        at = place % len(stream)
        stream[at : at + (way != 1)] = b"" if way == 2 and len(stream) > 1 else bytes((byte,))
    whole = bytes(stream) + b"\0"
    end.feed(whole)
    taken = [frame.sequence for frame in decoder.feed(whole) if frame.kind == link.PROBE]
    echoes = [frame.sequence for frame in link.Decoder(SESSION).feed(end.said()) if frame.kind == link.ECHO]
    assert echoes == taken
    assert library.host_damaged() == decoder.damaged


MENDED = 0.12  # up to here the link never gives up; beyond, it may say that nothing answers
rates = st.floats(0, 0.3)


@few
@given(
    rates=st.tuples(rates, rates, rates, rates),
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, link.BODY - 8), min_size=1, max_size=40),
)
def test_no_faults_lose_repeat_or_reorder_messages(
    library: ctypes.CDLL, rates: tuple[float, ...], seed: int, sizes: list[int]
) -> None:
    loss, damage, repeat, noise = rates
    faulty = FaultyWire(DeviceWire(DeviceEnd(library)), Faults(loss, damage, repeat, noise), seed)
    sent = [struct.pack("<I", number) + bytes(size) for number, size in enumerate(sizes)]
    heard: list[bytes] = []
    try:
        under_test = link.Link(faulty)
        under_test.connect()
        for message in sent:  # in flight at the same time, as far as the credits go
            under_test.send(message)
            while answer := under_test.poll():
                heard.append(answer)
        while len(heard) < len(sent):
            heard.append(under_test.receive())
    except link.LinkError:
        assert max(rates) > MENDED
    else:
        assert len(heard) == len(sent)
    assert heard == [b"\x81\0\0\0" + message for message in sent[: len(heard)]]


class LateWire(DeviceWire):
    """The C end, to which some frames come late: whenever `late` says so, as a stale line gives them."""

    def __init__(self, end: DeviceEnd, late: Iterator[bool]) -> None:
        super().__init__(end)
        self.late, self.kept, self.got = late, [b""], list[bytes]()

    def write(self, data: bytes) -> None:
        for part in data.split(b"\0")[:-1]:
            frame = part + b"\0"
            hello = (link.uncobs(part) or b"")[:1] == bytes((link.HELLO,))
            if not hello and next(self.late):
                self.kept.append(frame)
                continue
            self.end.feed(frame)
            if next(self.late):
                self.end.feed(self.kept.pop(0) if self.kept else b"")
        self.got += self.end.heard()


@few
@given(seed=st.integers(0, 2**32 - 1), counts=st.lists(st.integers(1, 30), min_size=2, max_size=4))
def test_nothing_of_an_old_session_is_heard_in_a_new_one(
    library: ctypes.CDLL, seed: int, counts: list[int]
) -> None:
    draw = random.Random(seed)
    wire = LateWire(DeviceEnd(library), iter(lambda: draw.random() < 0.2, None))
    for session, count in enumerate(counts):
        under_test = link.Link(wire)
        under_test.connect()
        wire.got.clear()
        sent = [struct.pack("<II", session, number) for number in range(count)]
        for message in sent:
            under_test.send(message)
        if session % 2 == 0:  # the other ones are left with messages on the line
            under_test.flush()
            assert wire.got == sent
        assert wire.got == sent[: len(wire.got)]
