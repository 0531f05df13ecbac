"""Linux' own USB stack in front of the firmware: Debian's kernel in a virtual machine, earkit in it.

`python -m benchmarks.usb_linux KERNEL BUSYBOX WORK MODEL.tflite [BOARD…]` takes what
`dpkg-deb -x` makes of Debian's packages linux-image-…-amd64 and busybox-static, and a folder to work in. QEMU
(apt install qemu-system-x86) boots the kernel; in its USB port is the stand-in of the board's chip, which
runs the whole firmware. The kernel enumerates it, its cdc_acm makes the serial port, and earkit there, of
this very folder, does what benchmarks/usb_guest.py says, with builds of MODEL and
of BUNDLE, by zig and by GCC.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import usb_boards
from usb_host import Host

from benchmarks.usbredir import Port
from firmware.compiler import build as builds
from firmware.compiler import interp
from firmware.compiler.build import Build
from kit import pipeline, shelf

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "usb_linux.md"
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "xhci_pci", "cdc_acm")
LIMIT_S = 900
INPUTS = 2
UNPLUGGED_S = 1.0
WRITTEN = 20_000  # bytes of an update, when the cable is pulled
PLEASE = b"please: unplug"  # says the guest
SEED = 5
BUNDLE = "tiny_transformer-micro-esc10"
SECONDS, RATE = 6, 16_000
HEARD = ("seconds", "results", "events", "lost_samples", "sent_as")
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /host
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /order); do /bin/busybox insmod /modules/$module.ko; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /host
for place in proc sys dev; do /bin/busybox mount --bind /$place /host/$place; done
/bin/busybox mount -t tmpfs tmp /host/run
/bin/busybox chroot /host /bin/sh -c 'cd {root} && export HOME=/run TMPDIR=/run PYTHONPATH={root} &&
  exec {python} -B -m benchmarks.usb_guest {work} 2>&1'
/bin/busybox poweroff -f
"""
KERNEL_LINE = re.compile(r"\[ *[0-9.]+\] ((?:usb [0-9]-|cdc_acm [0-9]).*)")
COMPLAINT = re.compile(r"\b(error|invalid|fail\w*|cannot|unable|bogus|not|no|stall\w*|too)\b", re.IGNORECASE)
DONE = re.compile(r"^done: (.*)$", re.MULTILINE)


class Pluggable:
    """A simulated board as `Port` takes it; in the ROM's own bootloader, which is not ours, it has gone."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.reset, self.control = host.reset, host.control
        self.bulk_out, self.bulk_in = host.bulk_out, host.bulk_in
        self._out = 0.0  # until then the cable is out

    def unplug(self) -> None:
        """Pull the cable out, and with it the power, for a moment."""
        self._host.bus.power_on()
        self._out = time.monotonic() + UNPLUGGED_S

    def run(self) -> None:
        """Let the chip work on for a while, if it has power."""
        if time.monotonic() > self._out:
            self._host.run()

    @property
    def attached(self) -> bool:
        """Return whether the pull-up is on."""
        return time.monotonic() > self._out and self._host.attached and not self._host.bus.bootsel


def needed(folder: Path) -> list[Path]:
    """Return the kernel's files of MODULES and of what they depend on, in the order of loading."""
    files = {path.stem.replace("-", "_"): path for path in folder.rglob("*.ko")}
    order: list[Path] = []

    def add(name: str) -> None:
        if (path := files.get(name)) is None or path in order:
            return  # built in, or there already
        found = re.search(rb"\0depends=([^\0]*)\0", b"\0" + path.read_bytes())
        for other in filter(None, found[1].decode().split(",") if found else ()):
            add(other.replace("-", "_"))
        order.append(path)

    for name in MODULES:
        add(name)
    return order


def archive(files: dict[str, tuple[int, bytes]]) -> bytes:
    """Return a cpio archive (newc) of name → (mode, content), as the kernel takes it for its first files."""

    def members() -> Iterator[bytes]:
        for number, (name, (mode, data)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
            fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
            header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
            yield header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)

    return b"".join(members())


def first_files(kernel: Path, busybox: Path, work: Path) -> bytes:
    """Return what the virtual machine starts from."""
    folder, program = 0o040755, 0o100755
    modules = needed(kernel / "lib" / "modules")
    init = INIT.format(root=ROOT, python=sys.executable, work=work)
    files = {
        **dict.fromkeys(("bin", "modules"), (folder, b"")),
        "bin/busybox": (program, (busybox / "bin" / "busybox").read_bytes()),
        "init": (program, init.encode()),
        "order": (program, " ".join(path.stem for path in modules).encode()),
        **{f"modules/{path.name}": (program, path.read_bytes()) for path in modules},
    }
    return archive(files)


def boot(kernel: Path, busybox: Path, work: Path, device: Pluggable) -> tuple[Port, str]:
    """Boot Linux with `device` in its USB port until it has done its work; return the port and the console.

    Raises:
        OSError: QEMU is missing.
        subprocess.TimeoutExpired: the guest does not end.
    """
    (work / "first.cpio").write_bytes(first_files(kernel, busybox, work))
    place, console = work / "usb", work / "console.txt"
    place.unlink(missing_ok=True)
    console.write_bytes(b"")
    command = [
        *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "2048"),
        *("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{console}"),
        *("-kernel", str(next((kernel / "boot").glob("vmlinuz-*"))), "-initrd", str(work / "first.cpio")),
        *("-append", "console=ttyS0 loglevel=7 panic=-1"),
        *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "qemu-xhci", "-chardev", f"socket,id=usb,path={place}"),
        *("-device", "usb-redir,chardev=usb"),
    ]
    over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen(1)
        with subprocess.Popen(command) as machine:
            try:
                line, _ = listening.accept()
                port = Port(line, device, lambda what: print(f"board {what}", file=sys.stderr, flush=True))
                watch = threading.Thread(target=lambda: (machine.wait(LIMIT_S), over.set()), daemon=True)
                watch.start()
                asked = 0
                try:
                    while not over.is_set():
                        port.work()
                        asked = pulled(device, port, console, asked)
                except ConnectionError as error:
                    print(f"board: {error}", file=sys.stderr)
                machine.wait(LIMIT_S)
            finally:
                machine.kill()
    return port, console.read_text(encoding="utf-8", errors="replace")


def pulled(device: Pluggable, port: Port, console: Path, before: int) -> int:
    """Pull the cable once the guest wants it and an update is under way.

    `before`, and what is returned: bytes that had crossed when the guest asked; 0: not yet, -1: it is done.
    """
    written = port.crossed["bytes out"]
    if before == 0 and PLEASE in console.read_bytes():
        return written
    if before > 0 and written > before + WRITTEN:
        device.unplug()
        return -1
    return before


def prepare(board: str, model: str, work: Path) -> Build:
    """Make three builds, their inputs, a sound, and what these must give; return the first build."""
    for name, source in (("first", model), ("second", BUNDLE), ("third", model)):
        toolchain: Literal["zig", "gcc"] = "gcc" if name == "third" else "zig"
        build = pipeline.compile(shelf.find(source), board, work / name, toolchain=toolchain)
        shape = build.graph.tensors[build.graph.inputs[0]].shape
        inputs = np.random.default_rng(SEED).integers(-128, 128, (INPUTS, *shape), np.int8)
        outputs = [interp.run(build.graph, [x])[0].ravel() for x in inputs]
        np.savez(work / f"{name}.npz", inputs=inputs, outputs=np.array(outputs))
    steps = np.arange(SECONDS * RATE) // RATE
    tone = np.sin(np.cumsum(300 + 200 * steps) * 2 * np.pi / RATE)
    noise = np.random.default_rng(SEED).normal(0, 0.02, tone.size)
    soundfile.write(work / "clip.wav", 0.3 * tone * (np.arange(tone.size) % RATE < RATE // 2) + noise, RATE)
    pipeline.compile(shelf.find(BUNDLE), "virtual-m0plus", work / "virtual")
    heard = pipeline.listen(work / "virtual", str(work / "clip.wav"), fast=True).record()
    kept = {key: heard[key] for key in HEARD}
    (work / "heard.json").write_text(json.dumps(kept), encoding="utf-8")
    return builds.load(work / "first")


def tried(board: str, port: Port, console: str) -> list[str]:
    """Return a board's part of the page; SystemExit when the kernel complains."""
    found = KERNEL_LINE.findall(console)
    if complaints := [line for line in found if COMPLAINT.search(line)]:
        raise SystemExit(f"{board}: the kernel complains: {complaints}")
    kernel = list(dict.fromkeys(re.sub(r"device number \d+", "device number …", line) for line in found))
    crossed = ", ".join(f"{count:,} {what}" for what, count in sorted(port.crossed.items()))
    stalls = ", ".join(f"`{setup}`" for setup in sorted(set(port.stalled))) or "none"
    return [
        f"**{board}**. What went well:",
        *("", *(f"- {line}" for line in DONE.findall(console) if line != "all"), ""),
        f"What crossed the bus: {crossed}. What the board refused, as it should: {stalls}. The kernel:",
        *("", "```", *kernel, "```", ""),
    ]


def main(kernel: Path, busybox: Path, folder: Path, model: str, names: Sequence[str]) -> None:
    """Try the boards one after the other, and write what came of it."""
    page: list[str] = []
    for name in names:
        work = folder / name
        work.mkdir(parents=True, exist_ok=True)
        host = usb_boards.plugged_in(prepare(name, model, work), application=False)
        port, console = boot(kernel, busybox, work, Pluggable(host))
        if DONE.findall(console)[-1:] != ["all"] or host.bus.wrong:
            raise SystemExit(f"{name}: {host.bus.wrong}\n{console[-3000:]}")
        page += tried(name, port, console)
    version = next((kernel / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
    page.append(
        f"Emulated, {date.today():%Y-%m-%d}: Debian's Linux {version} in QEMU, the chips as stand-ins "
        "from their data sheets, the whole firmware in them; no time is told, since none is the hardware's. "
        "QEMU keeps the kernel's SET_ADDRESS for itself; the bridge gives the board one. "
        "Made by `python -m benchmarks.usb_linux`."
    )
    RESULT.write_text("\n".join([*page, ""]), encoding="utf-8")


if __name__ == "__main__":
    places = [Path(word).resolve() for word in sys.argv[1:4]]
    main(*places, sys.argv[4], sys.argv[5:] or usb_boards.NAMES)
