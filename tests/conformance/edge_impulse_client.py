"""A client that does what edge-impulse-run-impulse and the daemon do: 5 bytes each 20 ms, waits for "> "."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from typing import Protocol

PIECE, PAUSE = 5, 0.02  # bytes, seconds
SENSOR_LINE = re.compile(
    r"^Name:\s?([^,]+),\s?Max sample length:\s?([^,]+)s\s?,\s?Frequencies:\s?\[(.*)\]\s?$"
)
SECTIONS = ("Device info", "Sensors", "Snapshot", "Inference", "WIFI", "Sampling parameters",
            "Upload settings", "Remote management")  # fmt: skip
KEYS = {
    "Device info": {"id", "type", "at version", "data transfer baudrate"},
    "Snapshot": {"has snapshot", "supports stream", "color depth", "resolutions"},
    "Inference": {"sensor", "model type"},
    "WIFI": {"ssid", "password", "security", "mac", "connected", "present"},
    "Sampling parameters": {"label", "interval", "length", "hmac key"},
    "Upload settings": {"api key", "host", "path"},
    "Remote management": {"url", "connected", "last error"},
}


class Port(Protocol):
    """A serial port or a wire."""

    def write(self, data: bytes) -> object:
        """Send."""

    def read(self, amount: float) -> bytes:
        """Return what has come: of a serial port at most `amount` bytes, of a wire within so many seconds."""


@dataclass
class Config:
    """What the client reads out of AT+CONFIG?."""

    values: dict[str, dict[str, str]]
    sensors: list[tuple[str, float, list[float]]]


class Client:
    """The client's end of the line; `paced` keeps its pauses."""

    def __init__(self, port: Port, *, paced: bool = False) -> None:
        self.port, self.paced, self.config = port, paced, Config({}, [])

    def until(self, sequence: bytes, seconds: float) -> bytes:
        """Return what comes up to the read in which `sequence` was first seen."""
        said, end = b"", time.monotonic() + seconds
        while sequence not in said:
            assert time.monotonic() < end, f"no {sequence!r} in {seconds} s, only {said[-200:]!r}"
            said += self.port.read(1)
        return said

    def send(self, text: str) -> None:
        """Send `text` and a carriage return at the client's pace."""
        data = text.encode("ascii") + b"\r"
        for at in range(0, len(data), PIECE):
            if at and self.paced:
                time.sleep(PAUSE)
            self.port.write(data[at : at + PIECE])

    def command(self, text: str, seconds: float = 2.0) -> str:
        """Return the answer less its first line, which is the echo, and its last, which is the prompt."""
        self.send(text)
        said = self.until(b"> ", seconds).decode("ascii")
        assert said.endswith("> "), f"a prompt inside the answer: {said!r}"
        answer = said[said.index("\r\n") : said.rindex("\r\n")].strip()
        assert "Not a valid AT command" not in answer, answer
        return answer

    def connect(self) -> None:
        """Break whatever runs, and read the configuration."""
        self.port.write(b"b\r")
        self.until(b"> ", 5)
        self.config = parse(self.command("AT+CONFIG?"))

    def settle(self, text: str) -> None:
        """Send a command that must be answered OK."""
        assert "OK" in self.command(text)

    def stop(self) -> bytes:
        """Stop inference; return what was still said."""
        self.port.write(b"b\r")
        return self.until(b"> ", 5)

    def sample(self, label: str, interval: float, milliseconds: int, key: str) -> bytes:
        """Let the board record and return its file, as the daemon would upload it."""
        self.settle(f"AT+SAMPLESETTINGS={label},{interval},{milliseconds},{key}")
        said = self.command("AT+SAMPLESTART=Built-in microphone", 30)
        steps = [said.index(step) for step in ("Sampling...", "Done sampling", "Processing...",
                 "Done processing", "Uploading...", "File name:", "Used buffer")]  # fmt: skip
        assert steps == sorted(steps)
        found = re.search(r"from=(\d+).*?to=(\d+).*?", said)
        assert found is not None
        return base64.b64decode(self.command(f"AT+READBUFFER={found[1]},{found[2]},n", 60))

    def replay(self, data: bytes) -> list[str]:
        """Send float32 for RUNIMPULSESTATIC as the firmware SDK's test script does; return the last lines."""
        self.port.write(b"AT\r")
        self.until(b"> ", 5)
        self.send(f"AT+RUNIMPULSESTATIC=n,{len(data) // 4}")
        said = self.until(b"CHUNK=32\r\n", 5)
        found = re.search(rb"OK CHUNK=(\d+)", said)
        assert found is not None, said
        text, chunk = base64.b64encode(data), int(found[1])
        for at in range(0, len(text), chunk):
            self.port.write(text[at : at + chunk])
            last = self.until(b"\r\n", 5)
            count = min((at + chunk) * 3 // 4 // 4, len(data) // 4)
            assert last.startswith(b"OK %d \r\n" % count), last
        rest = last.partition(b"\r\n")[2]
        return (rest + (b"" if b"> " in rest else self.until(b"> ", 5))).decode("ascii").splitlines()


def parse(text: str) -> Config:
    """Return the configuration; whatever the client would warn of, or abort at, fails."""
    section, config = "", Config({}, [])
    for line in filter(None, (line.strip() for line in text.split("\n"))):
        title = next((name for name in SECTIONS if f"= {name} =" in line), None)
        if title:
            section = title
            config.values[section] = {}
        elif section == "Sensors":
            found = SENSOR_LINE.match(line)
            assert found, line
            rates = [float(rate.replace("Hz", "")) for rate in found[3].split(",")]
            config.sensors.append((found[1], float(found[2]), rates))
        elif section:
            key, _, value = line.partition(":")
            assert key.lower() in KEYS[section], line
            config.values[section][key.lower()] = value.strip()
    major, minor, _ = map(int, config.values["Device info"]["at version"].split("."))
    assert (major, minor) <= (1, 8)
    assert config.values["Snapshot"]["color depth"] in ("RGB", "Grayscale")
    return config
