"""Recording through the board's own microphone, by the AT commands that Edge Impulse's client uses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import re
import secrets
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit.link import LinkError, Wire
from kit.outputs import write_bytes
from kit.progress import Progress, silent

if TYPE_CHECKING:
    from firmware.compiler.build import Build

Samples = npt.NDArray[np.int16]

DIALECT, SENSOR, PROMPT = "edge-impulse", "Built-in microphone", b"> "
PIECE, PAUSE = (
    5,
    0.02,
)  # bytes that are sent at once, seconds between them: the UART of a board has no flow control
PATIENCE = 5.0  # seconds
SLOWEST = 1000.0  # base64 characters a second that any line carries
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
ALIGNED = re.compile(r"Ref-BINARY-i16 *")


class Console:
    """The AT commands of the board at the other end of `wire`."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.command("AT")  # whatever was typed before

    def command(self, text: str, patience: float = PATIENCE) -> str:
        """Return what the board answers to `text`, without echo and prompt.

        Raises:
            LinkError: no prompt came within `patience` seconds.
            UserError: the board refused, in its words.
        """
        data = text.encode("ascii") + b"\r"
        for at in range(0, len(data), PIECE):
            if at and self.wire.live:
                time.sleep(PAUSE)
            self.wire.write(data[at : at + PIECE])
        said, end = bytearray(), time.monotonic() + patience
        while PROMPT not in said[-len(PROMPT) :]:
            more = self.wire.read(0.1)
            said += more
            if time.monotonic() > end or not (more or self.wire.live):
                raise LinkError(
                    f"{self.wire.name} did not finish {text.partition('=')[0]}: reset it and try again"
                )
        answer = said.decode("ascii", "replace").partition("\n")[2].removesuffix("> ").strip()
        if "ERR:" in answer:
            raise UserError(f"{self.wire.name}: {answer.partition('ERR:')[2].strip()}")
        return answer


@dataclass(frozen=True)
class Recording:
    """What a file of Edge Impulse's acquisition format holds: mono int16 samples at `rate` Hz."""

    rate: int
    samples: Samples


def record(
    build: Build,
    label: str,
    seconds: float,
    out: Path,
    *,
    clips: int = 1,
    port: str | None = None,
    source: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Record `clips` clips of `seconds` into `out`/`label`, a folder per class as `--data` reads it.

    Args:
        build: compiled for the dialect edge-impulse.
        label: of the clips: letters, digits, `_` and `-`.
        seconds: of a clip; what the board's free RAM holds at most.
        out: folder of the data set.
        clips: how many, one behind the other.
        port: serial port of a real board.
        source: what the microphone of a virtual board hears: "mic", or a sound file.
        progress: gets "record" with clips.

    Raises:
        UserError: another build, a label that is no name of a folder, no microphone, no room on the board, or
            nothing more to hear.
    """
    from kit import device

    if build.dialect is None or build.dialect.name != DIALECT:
        raise UserError(f"{build.path}: cannot record: compile it with --dialect {DIALECT}")
    if not LABEL.fullmatch(label):
        raise UserError(f"label {label!r}: 1 to 32 letters, digits, '_' and '-'")
    stamp, files = datetime.now().strftime("%Y%m%d-%H%M%S"), []
    with device.open(build, port, progress) as board:
        console = Console(board.restart())
        rate, most = _microphone(console)
        if seconds > most:
            raise UserError(
                f"{seconds:g} s: {build.board.name} has room for {most:g} s: record shorter clips"
            )
        _air(build, console.wire, rate, source)
        for number in range(clips):
            progress("record", number, clips)
            file = out / label / f"{label}-{stamp}-{number:03}.wav"
            _write(file, _clip(console, label, seconds, rate), rate)
            files.append(str(file))
        progress("record", clips, clips)
    return {"label": label, "rate": rate, "seconds": seconds, "files": files}


def _microphone(console: Console) -> tuple[int, float]:
    """Return rate and most seconds of the board's microphone; UserError when it has none."""
    config = console.command("AT+CONFIG?")
    found = re.search(rf"Name: {SENSOR}, Max sample length: ([\d.]+)s, Frequencies: \[(\d+)\.00Hz\]", config)
    if found is None:
        raise UserError(f"{console.wire.name} has no microphone: choose another board")
    return int(found[2]), float(found[1])


def _air(build: Build, wire: Wire, rate: int, source: str | None) -> None:
    """Let a virtual board hear `source`."""
    from kit.audio import open_source
    from kit.virtual import VirtualBoard

    if not isinstance(wire, VirtualBoard):
        if source is not None:
            raise UserError(f"{build.board.name} has a microphone of its own: leave --source out")
        return
    if source is None:
        raise UserError(f"{build.board.name} is emulated: say what it hears, --source mic or a sound file")
    blocks = open_source(source, rate, fast=True)
    wire.air(rate, (block for block in blocks if not isinstance(block, int)))


def _clip(console: Console, label: str, seconds: float, rate: int) -> Samples:
    key, length = secrets.token_hex(16), round(1000 * seconds)
    console.command(f"AT+SAMPLESETTINGS={label},{1000 / rate:.4f},{length},{key}")
    said = console.command(f"AT+SAMPLESTART={SENSOR}", 3 * seconds + PATIENCE)
    found = re.search(r"from=(\d+), to=(\d+)", said)
    if found is None:
        raise LinkError(
            f"{console.wire.name} says of its recording only {said[-80:]!r}: compile and flash again"
        )
    size = int(found[2]) - int(found[1])
    text = console.command(f"AT+READBUFFER={found[1]},{found[2]},n", PATIENCE + 2 * size / SLOWEST)
    recording = decode(base64.b64decode(text), key)
    if recording.samples.size != length * rate // 1000:
        raise LinkError(f"{console.wire.name}: {recording.samples.size} samples came: repeat the command")
    return recording.samples


def _write(file: Path, samples: Samples, rate: int) -> None:
    import soundfile

    made = io.BytesIO()
    soundfile.write(made, samples, rate, format="WAV", subtype="PCM_16")
    write_bytes(file, made.getvalue())


def decode(data: bytes, key: str) -> Recording:
    """Return what a file of the acquisition format holds whose signature was made with `key`.

    Raises:
        LinkError: it is damaged, or no sound.
    """
    try:
        content, at = _cbor(data, 0)
        signature, payload = content["signature"], content["payload"]
        (reference,) = payload["values"]
        if content["protected"]["alg"] != "HS256" or not ALIGNED.fullmatch(reference):
            raise LinkError("the recording is of another kind: compile and flash again")
        rate = round(1000 / payload["interval_ms"])
        blank = data.replace(signature.encode("ascii"), b"0" * len(signature), 1)
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        struct.error,
    ):
        raise LinkError("the recording came damaged: repeat the command") from None
    if not hmac.compare_digest(hmac.new(key.encode(), blank, hashlib.sha256).hexdigest(), signature):
        raise LinkError("the recording came damaged (its signature is wrong): repeat the command")
    return Recording(rate, np.frombuffer(data[at:], "<i2").astype(np.int16))


def _cbor(data: bytes, at: int) -> tuple[Any, int]:
    """Return the CBOR item (RFC 8949) at `at`, of the kinds that the format has, and where it ends."""
    kind, size = data[at] >> 5, data[at] & 31
    at += 1
    if (kind, size) == (7, 26):
        return struct.unpack_from(">f", data, at)[0], at + 4
    if size == 24:
        size, at = data[at], at + 1
    elif size > 24 and size != 31:
        raise ValueError(size)
    if kind == 3:
        return data[at : at + size].decode("ascii"), at + size
    if kind not in (4, 5):
        raise ValueError(kind)
    items = []
    for item, end in _items(data, at, None if size == 31 else size * (kind - 3)):
        items.append(item)
        at = end
    at += size == 31  # the break
    return (dict(zip(items[::2], items[1::2], strict=True)) if kind == 5 else items), at


def _items(data: bytes, at: int, count: int | None) -> Iterator[tuple[Any, int]]:
    while count != 0 and (count is not None or data[at] != 0xFF):
        item, at = _cbor(data, at)
        count = None if count is None else count - 1
        yield item, at
