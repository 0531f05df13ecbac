"""What benchmarks/usb_linux.py lets Linux do with the board in its USB port.

`python -m benchmarks.usb_guest WORK`, as root in the virtual machine; WORK is what benchmarks/usb_linux.py
prepared. The board has nothing but its bootloader before. What went well becomes a line `done: …`.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import boards
from firmware.compiler import build as builds
from kit import serial_port
from kit.device import Device
from kit.flash import touch
from kit.serial_port import PortError, SerialWire

PLACE = Path("/run/work")
APPEARS = 60.0  # seconds
USBDEVFS_RESET = ord("U") << 8 | 20  # linux/usbdevice_fs.h
MODEM_MANAGER = (b"AT\r", b"ATE0\r", b"AT+GCAP\r", b"ATI\r", b"AT+CPIN?\r", b"\x7e\x00\x78\xf0\x7e")
SAMPLES = 3


def until(what: str, look: Callable[[], Any]) -> Any:
    """Return what `look` finds, once it does."""
    end = time.monotonic() + APPEARS
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {APPEARS:.0f} s")
        time.sleep(0.1)
    return found


def earkit(*words: str) -> dict[str, Any]:
    """Return what a verb of earkit says, as a program of its own."""
    command = [sys.executable, "-B", "-m", "kit", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"earkit {' '.join(words)}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def told(line: str) -> None:
    """Say what went well."""
    print(f"done: {line}", flush=True)


def port_of(board: boards.Board) -> str:
    """Return the board's port once Linux has it."""

    def look() -> str | None:
        try:
            return serial_port.find(board)
        except PortError:
            return None

    found: str = until("a port with the board's USB id", look)
    return found


def device_folder(port: str) -> Path:
    """Return the folder of sysfs of the USB device behind a port."""
    return Path(f"/sys/class/tty/{Path(port).name}/device").resolve().parent


def probed(port: str) -> None:
    """Ask as ModemManager asks a new port, then take no notice of the answers."""
    line = serial_port.opened(port, {}, baudrate=57_600, timeout=0.2)
    for question in MODEM_MANAGER:
        line.write(question)
        line.read(100)
    line.close()
    told("ModemManager's questions to the new port")


def flashed(work: Path, name: str) -> None:
    """Flash a build, without naming the port, and let it run."""
    build = builds.load(work / name)
    said = earkit("flash", str(work / name))
    assert (said["build_id"], said["method"]) == (build.build_id, "serial"), said
    told(f"earkit flash, {said['bytes']:,} bytes, onto {'nothing' if name == 'first' else 'another build'}")
    with np.load(work / f"{name}.npz") as kept:
        inputs, outputs = kept["inputs"], kept["outputs"]
    same = 0
    for x, y in zip(inputs, outputs, strict=True):
        source, target = PLACE / "in.npy", PLACE / "out.npy"
        np.save(source, x)
        earkit("run", str(work / name), "--input", str(source), "--output", str(target))
        same += np.array_equal(np.load(target).ravel(), y)
    assert same == len(inputs), f"{same} of {len(inputs)} outputs"
    told(f"earkit run, {same} of {len(inputs)} outputs equal to the interpreter's")


def listened(work: Path) -> None:
    """Stream sound to the board: it hears what the emulated board on the host heard."""
    expected = json.loads((work / "heard.json").read_text(encoding="utf-8"))
    said = earkit("listen", str(work / "second"), "--source", str(work / "clip.wav"), "--fast")
    heard = {key: said[key] for key in expected}
    assert heard == expected, f"{heard} instead of {expected}"
    told(
        f"earkit listen, {heard['seconds']:.0f} s of sound: {heard['results']} results and "
        f"{len(heard['events'])} events as on virtual-m0plus, {heard['lost_samples']} samples lost"
    )


def farmed(work: Path, board: boards.Board) -> None:
    """Let the farm flash and profile; no time of a stand-in is looked at."""
    fleet = PLACE / "fleet.toml"
    fleet.write_text(f'[[boards]]\nboard = "{board.name}"\nport = "{port_of(board)}"\n', encoding="utf-8")
    said = earkit(
        "farm", str(fleet), str(work / "first"), "--samples", str(SAMPLES), "-o", str(PLACE / "farm")
    )
    (row,) = said["boards"]
    assert row["error"] is None, row["error"]
    assert row["counts"]["mismatches"]["value"] == 0, row
    told(f"earkit farm, flash and profile: {row['samples']} inputs, 0 mismatches with the host's int8")


def opened_and_closed(board: boards.Board, times: int) -> None:
    """Open the port and close it, at several speeds and with other lines: the board must not start again."""
    port = port_of(board)
    number = device_folder(port) / "devnum"
    before = number.read_text()
    for one in range(times):
        lines = ({}, {"dtr": True}, {"dtr": False, "rts": False}, {"rts": False})[one % 4]
        speed = (9600, 115_200, 921_600)[one % 3]
        line = serial_port.opened(port, lines, baudrate=speed, timeout=0)
        line.close()
    with Device(SerialWire(port, board)) as device:
        assert device.info().mode == "app"
    assert number.read_text() == before
    told(f"the port opened and closed {times} times, with DTR and RTS high and low: the same device answers")


def shaken(board: boards.Board) -> None:
    """Reset the device, take its driver and its configuration away: it answers again each time."""
    for what in ("USB reset", "cdc_acm unbound and bound", "deconfigured and configured"):
        port = port_of(board)
        folder = device_folder(port)
        if what == "USB reset":
            bus, number = (int((folder / name).read_text()) for name in ("busnum", "devnum"))
            handle = os.open(f"/dev/bus/usb/{bus:03}/{number:03}", os.O_WRONLY)
            fcntl.ioctl(handle, USBDEVFS_RESET, 0)
            os.close(handle)
        elif what.startswith("cdc_acm"):
            driver = Path("/sys/bus/usb/drivers/cdc_acm")
            for verb in ("unbind", "bind"):
                (driver / verb).write_text(f"{folder.name}:1.0")
        else:
            for value in ("0", "1"):
                (folder / "authorized").write_text(value)
        with Device(SerialWire(port_of(board), board)) as device:
            assert device.info().mode == "app"
        told(f"{what}: it answers")


def while_it_speaks(board: boards.Board) -> None:
    """Close the port in the middle of an answer and open it again."""
    for _ in range(5):
        with Device(SerialWire(port_of(board), board)) as device:
            device.post(1)
            device.post(9)
        with Device(SerialWire(port_of(board), board)) as device:
            assert device.info().mode == "app"
    told("the port closed with answers on their way, 5 times: the next session has none of them")


def interrupted(work: Path) -> None:
    """Have the cable pulled in the middle of an update: one line says so, and the next try goes on."""
    board, words = builds.load(work / "third").board, ["flash", str(work / "third")]
    print("please: unplug", flush=True)
    done = subprocess.run(
        [sys.executable, "-B", "-m", "kit", *words], capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1, last
    assert " went away (" in last, last
    with Device(SerialWire(port_of(board), board)) as device:
        assert device.info().mode == "app"
    told(f"unplugged in the middle of earkit flash, which says `{last}`: plugged in, the old build runs")
    flashed(work, "third")


def touched(board: boards.Board) -> None:
    """Touch the application, talk to the bootloader, and touch that."""
    port = port_of(board)
    touch.touch(port)
    with Device(SerialWire(port_of(board), board)) as device:
        assert device.info().mode == "boot"
        device.reset("app")
        assert device.info().mode == "app"
    told("1200-baud touch: the application goes to our bootloader, which answers and starts it again")
    for _ in range(2):
        port = port_of(board)
        touch.touch(port)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert board.usb
        assert board.usb.id not in serial_port.ports().values(), "it came back"
        time.sleep(0.2)
    told("a touch of the application and one of the bootloader: the board has left for the chip's own")


def main(work: Path) -> None:
    """Do it all; the first thing that goes wrong ends it."""
    PLACE.mkdir()
    board = builds.load(work / "first").board
    port = port_of(board)
    number = serial_port.serial_numbers()[port]
    told(f"the kernel made {port} of {serial_port.ports()[port]} with serial number {number}")
    probed(port)
    flashed(work, "first")
    flashed(work, "second")
    listened(work)
    farmed(work, board)
    opened_and_closed(board, 24)
    shaken(board)
    while_it_speaks(board)
    interrupted(work)
    touched(board)
    told("all")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
