"""Updates: the other image is overwritten, pages are not sent twice, a mute image gives way, none is lost."""

from __future__ import annotations

import random
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from updates import FAULTS, NEW, OLD, SURVIVED, CutBoard, Small, SpoiltWire, Trial, runs, small, update

from boards.errors import UserError
from firmware.compiler import image as images
from firmware.compiler import signing
from kit import link
from kit.device import Device
from kit.update import WRITE, places, write_image
from kit.virtual import VirtualBoard

POINTS = 30  # of the sweep that benchmarks/updates.py does in full


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small(tmp_path_factory.mktemp("small"))


class Listening:
    """A wire that keeps what is sent."""

    live = False

    def __init__(self, wire: link.Wire) -> None:
        self.name, self.wire, self.sent = wire.name, wire, b""

    def read(self, timeout: float) -> bytes:
        return self.wire.read(timeout)

    def write(self, data: bytes) -> None:
        self.sent += data
        self.wire.write(data)

    def close(self) -> None:
        self.wire.close()

    def written(self) -> int:
        """Return the bytes of all WRITE messages so far."""
        frames = [link.uncobs(part) or b"" for part in self.sent.split(b"\0")]  # header, message, CRC
        return sum(len(f) - 16 for f in frames if f[:1] == bytes((link.DATA,)) and f[4] == WRITE)


def large(made: Small, name: str, pages: int) -> tuple[bytes, bytes]:
    """Return images with `pages` pages of ballast behind the application."""
    ballast = random.Random(name).randbytes(4096 * pages)
    origin, second = made.board.app_origin, made.board.second_image
    first, last = (body.replace(b"stand-in", name.encode()) + ballast for body in made.bodies)
    return images.pack(first, name, origin), images.pack(last, name, origin + second)


def test_updates_take_turns(made: Small) -> None:
    wire = VirtualBoard(made.board, made.flash())
    for number, offset in enumerate([0, made.board.second_image] * 2):
        name = f"build--{number}"
        update(wire, made.images(name))
        assert runs(wire) == name
        device = Device(wire)
        device.reset("boot")
        assert places(device).running == offset
        device.reset("app")


def test_an_image_that_does_not_answer_gives_way(made: Small) -> None:
    wire = VirtualBoard(made.board, made.flash(made.images(OLD)[0]))
    device = Device(wire)
    device.reset("boot")
    first, second = made.images(NEW)
    assert write_image(device, first, second=second)
    wire.power_cycle()  # the new one starts, and nobody asks it
    wire.read(0)
    assert runs(wire) == OLD
    assert runs(wire) == OLD  # it was given up for good
    update(wire, made.images("newer---"))
    assert [runs(wire), runs(wire)] == ["newer---"] * 2


def test_an_image_that_crashes_gives_way(made: Small) -> None:
    origin = made.board.app_origin + made.board.second_image
    dead = struct.pack("<II", 0x2000_1000, origin + images.HEADER_BYTES + 9) + b"\x00\xde" * 8
    wire = VirtualBoard(made.board, made.flash(made.images(OLD)[0]))
    device = Device(wire)
    device.reset("boot")
    write_image(device, made.images(NEW)[0], second=images.pack(dead, "dead", origin))
    with pytest.raises(UserError, match="crashed"):
        device.reset("app")
    assert runs(wire) == OLD


def test_what_is_there_is_not_sent_again(made: Small) -> None:
    new = large(made, NEW, 10)
    board = CutBoard(made.board, made.flash(large(made, OLD, 10)[0]))
    plain = Listening(CutBoard(made.board, made.flash(large(made, OLD, 10)[0])))
    update(plain, new)
    body = len(new[0]) - images.HEADER_BYTES
    assert body == plain.written()
    spoilt = SpoiltWire(board, "cut", 150)  # about the middle
    begun = Listening(spoilt)
    with pytest.raises(link.GoneError):
        update(begun, new)
    assert 0.3 * body < begun.written() < 0.9 * body
    assert runs(board) == OLD
    again = Listening(board)
    update(again, new)
    assert body < begun.written() + again.written() < body + 3 * 4096  # the page in work is done again
    assert runs(board) == NEW


def test_an_image_larger_than_half_takes_both_places(made: Small) -> None:
    pages = made.board.second_image // 4096
    (huge, _) = large(made, "huge----", pages)
    wire = VirtualBoard(made.board, made.flash(made.images(OLD)[0]))
    device = Device(wire)
    device.reset("boot")
    assert not write_image(device, huge)
    device.reset("app")
    assert device.info().build_id == "huge----"
    device.reset("boot")
    first, second = made.images(NEW)
    assert not write_image(device, first, second=second)  # it overwrites the end of the huge one
    device.reset("app")
    assert runs(wire) == NEW


def test_a_whole_image_from_a_programmer_is_the_newer_one(made: Small) -> None:
    wire = VirtualBoard(made.board, made.flash(made.images(OLD)[0]))
    update(wire, made.images(NEW))
    content = wire.flash_contents()
    written = made.flash(made.images("by-probe")[0])  # over the first image; the second one stays
    wire = VirtualBoard(made.board, written + content[len(written) :])
    assert [runs(wire), runs(wire)] == ["by-probe"] * 2


def test_another_key_is_refused_by_the_host_and_by_the_board(
    made: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ed25519PrivateKey.generate()
    monkeypatch.setattr(signing, "key", lambda: other)
    foreign = made.images(NEW)
    wire = VirtualBoard(made.board, made.flash(made.images(OLD)[0], foreign[1]))
    with Device(wire) as device:
        assert device.info().mode == "boot"  # neither is signed with the key that it was built with
        with pytest.raises(UserError, match=r"another key only .*signing\.pem"):
            write_image(device, *foreign[:1], second=foreign[1])


def test_the_sweep_would_notice(made: Small) -> None:
    trial = Trial(made)
    trial.new = (trial.new[0], b"")  # always over the one that runs: what must not be done
    frames, _ = trial.size()
    assert any(trial.line("cut", at) not in SURVIVED for at in range(20, frames, 6))


def test_no_fault_leaves_a_board_without_an_application(made: Small) -> None:
    trial, draw = Trial(made), random.Random(5)
    frames, operations = trial.size()
    for number in range(POINTS):
        assert trial.line(FAULTS[number % len(FAULTS)], draw.randrange(frames), number) in SURVIVED, number
    marks = [operations - n for n in range(0, 80, 9)]  # the header and the marks come last
    for operation in [*marks, *draw.sample(range(1, operations), POINTS // 3)]:
        assert trial.power(operation) in SURVIVED, operation
