"""A phone that is none: what adbd says over TCP to the real adb server, with this machine's shell behind it.

Its /data/local/tmp and /sys are folders of the test, its taskset notes the mask and runs the rest.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

HEAD = struct.Struct("<6I")
FRAME = struct.Struct("<BI")
CNXN, OPEN, OKAY, CLSE, WRTE = (
    int.from_bytes(word, "little") for word in (b"CNXN", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
)
MOST = 65536  # bytes of a packet
PROPERTIES = {
    "ro.product.model": "Stand-in",
    "ro.soc.model": "none",
    "ro.build.version.release": "14",
    "ro.product.cpu.abilist": "x86_64,arm64-v8a",
}


@dataclass
class Stream:
    """One service that the host opened."""

    phone: Phone
    link: Link
    mine: int
    theirs: int
    come: bytes = b""
    changed: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False
    free: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes of the host's, or b"" at the end."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.come) >= count or self.ended, 30)
            data, self.come = self.come[:count], self.come[count:]
            return data if len(data) == count else b""

    def write(self, data: bytes) -> None:
        """Send `data`, each packet after the one before was taken."""
        for at in range(0, len(data), MOST):
            self.link.send(WRTE, self.mine, self.theirs, data[at : at + MOST])
            self.free.acquire(timeout=30)

    def close(self) -> None:
        """Tell the host that this is all."""
        self.link.send(CLSE, self.mine, self.theirs)


class Link:
    """The connection of one adb server."""

    def __init__(self, phone: Phone, connection: socket.socket) -> None:
        self.phone, self.connection, self.lock = phone, connection, threading.Lock()
        self.streams: dict[int, Stream] = {}

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        head = HEAD.pack(command, first, second, len(data), sum(data) & 0xFFFFFFFF, command ^ 0xFFFFFFFF)
        with self.lock, contextlib.suppress(OSError):
            self.connection.sendall(head + data)

    def serve(self) -> None:
        with contextlib.suppress(OSError), self.connection.makefile("rb") as file:
            while len(head := file.read(HEAD.size)) == HEAD.size:
                command, first, second, size, *_ = HEAD.unpack(head)
                self.take(command, first, second, file.read(size))

    def take(self, command: int, first: int, second: int, data: bytes) -> None:
        if command == CNXN:
            banner = b"device::ro.product.name=none;ro.product.model=none;features=shell_v2,cmd"
            self.send(CNXN, 0x01000000, MOST, banner)
        elif command == OPEN:
            stream = Stream(self.phone, self, len(self.streams) + 1, first)
            self.streams[stream.mine] = stream
            self.send(OKAY, stream.mine, first)
            service = data.rstrip(b"\0").decode()
            threading.Thread(target=self.phone.service, args=(stream, service), daemon=True).start()
        elif command == OKAY and second in self.streams:
            self.streams[second].free.release()
        elif command == WRTE and second in self.streams:
            stream = self.streams[second]
            with stream.changed:
                stream.come += data
                stream.changed.notify_all()
            self.send(OKAY, second, first)
        elif command == CLSE and second in self.streams:
            stream = self.streams[second]
            with stream.changed:
                stream.ended = True
                stream.changed.notify_all()
            stream.free.release()


class Phone:
    """Listens at 127.0.0.1:`port`; a context manager. `full`: no byte more fits in its storage."""

    def __init__(self, folder: Path, properties: dict[str, str] | None = None) -> None:
        self.folder, self.full = folder, False
        self.links: list[Link] = []
        self.children: list[subprocess.Popen[bytes]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.serial = f"127.0.0.1:{self.port}"
        (folder / "data").mkdir(parents=True)
        self._programs(PROPERTIES | (properties or {}))
        self._cores()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Phone:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.vanish()

    def vanish(self) -> None:
        """Be unplugged."""
        for link in self.links:
            with contextlib.suppress(OSError):
                link.connection.shutdown(socket.SHUT_RDWR)
            link.connection.close()
        for child in self.children:
            child.kill()
            child.wait()

    def masks(self) -> list[str]:
        """Return the masks that taskset was given."""
        path = self.folder / "masks"
        return path.read_text().split() if path.exists() else []

    def service(self, stream: Stream, name: str) -> None:
        """Do what the host opened a stream for."""
        if name == "sync:":
            self._sync(stream)
        elif name.startswith("shell,v2"):
            self._shell(stream, name.partition(":")[2])
        stream.close()

    def path(self, text: str) -> str:
        """Return where something of the phone lies here."""
        text = text.replace("/data/local/tmp", str(self.folder / "data"))
        return text.replace("/sys/", f"{self.folder}/sys/")

    def _shell(self, stream: Stream, command: str) -> None:
        environment = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        child = subprocess.Popen(
            ["sh", "-c", self.path(command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=self.folder,
        )
        self.children.append(child)
        assert child.stdout is not None
        assert child.stderr is not None
        lock = threading.Lock()

        def pump(kind: int, file: int) -> None:
            while data := os.read(file, MOST - FRAME.size):
                with lock:
                    stream.write(FRAME.pack(kind, len(data)) + data)

        pumps = [
            threading.Thread(target=pump, args=(kind, file.fileno()), daemon=True)
            for kind, file in ((1, child.stdout), (2, child.stderr))
        ]
        for one in (*pumps, threading.Thread(target=self._feed, args=(stream, child), daemon=True)):
            one.start()
        for one in pumps:
            one.join()
        code = child.wait()
        for file in (child.stdin, child.stdout, child.stderr):
            with contextlib.suppress(OSError):
                assert file is not None
                file.close()
        stream.write(FRAME.pack(3, 1) + bytes([code if code >= 0 else 128 - code]))

    def _feed(self, stream: Stream, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            while head := stream.read(FRAME.size):
                kind, size = FRAME.unpack(head)
                data = stream.read(size) if size else b""
                if kind == 0:
                    child.stdin.write(data)
                    child.stdin.flush()
                elif kind == 4:
                    child.stdin.close()
                    return
            child.stdin.close()
            child.terminate()  # the host hung up

    def _sync(self, stream: Stream) -> None:
        while head := stream.read(8):
            word, size = head[:4], int.from_bytes(head[4:], "little")
            name = stream.read(size).decode() if size else ""
            if word == b"STAT":
                path = Path(self.path(name))
                facts = path.stat() if path.exists() else None
                numbers = (facts.st_mode, facts.st_size, int(facts.st_mtime)) if facts else (0, 0, 0)
                stream.write(b"STAT" + struct.pack("<3I", *numbers))
            elif word == b"SEND":
                self._receive(stream, name)
            elif word == b"RECV":
                data = Path(self.path(name)).read_bytes()
                for at in range(0, len(data), MOST - 8):
                    piece = data[at : at + MOST - 8]
                    stream.write(b"DATA" + struct.pack("<I", len(piece)) + piece)
                stream.write(b"DONE\0\0\0\0")
            else:
                return

    def _receive(self, stream: Stream, name: str) -> None:
        place, _, mode = name.rpartition(",")
        data = b""
        while head := stream.read(8):
            if head[:4] == b"DONE":
                break
            data += stream.read(int.from_bytes(head[4:], "little"))
        if self.full:
            said = b"write failed: No space left on device"
            stream.write(b"FAIL" + struct.pack("<I", len(said)) + said)
            return
        path = Path(self.path(place))
        path.write_bytes(data)
        path.chmod(int(mode) & 0o777)
        stream.write(b"OKAY\0\0\0\0")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.links.append(Link(self, connection))
                threading.Thread(target=self.links[-1].serve, daemon=True).start()

    def _programs(self, properties: dict[str, str]) -> None:
        cases = "".join(f'{name}) echo "{value}";; ' for name, value in properties.items())
        df = 'echo "Filesystem 1K-blocks Used Available Use% Mounted"; echo "/dev/x 100 99 1 99% /data"'
        scripts = {
            "getprop": f"case $1 in {cases} esac",
            "taskset": f'echo "$1" >> "{self.folder}/masks"; shift; exec "$@"',
            "df": df,
        }
        (self.folder / "bin").mkdir()
        for name, script in scripts.items():
            path = self.folder / "bin" / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    def _cores(self) -> None:
        """Four small cores, two big ones, one that is off."""
        for number in range(7):
            core = self.folder / "sys" / "devices" / "system" / "cpu" / f"cpu{number}"
            (core / "cpufreq").mkdir(parents=True)
            (core / "cpufreq" / "cpuinfo_max_freq").write_text("1800000\n" if number < 4 else "2800000\n")
            (core / "cpu_capacity").write_text("400\n" if number < 4 else "1024\n")
            (core / "cpufreq" / "scaling_governor").write_text("schedutil\n")
            (core / "online").write_text("0\n" if number == 6 else "1\n")
