"""A simulated USB device in a port of QEMU's virtual machine: the device's end of usbredir 0.7."""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from usb_host import UsbDevice

HELLO, CONNECT, DISCONNECT, RESET, INTERFACES, ENDPOINTS = range(6)
SET_CONFIGURATION, GET_CONFIGURATION, CONFIGURATION, SET_ALTERNATE, GET_ALTERNATE, ALTERNATE = range(6, 12)
START_INTERRUPT, STOP_INTERRUPT, INTERRUPT_STATUS = 15, 16, 17
CANCEL, DISCONNECT_ACK = 21, 24
CONTROL, BULK, INTERRUPT = 100, 101, 103
SUCCESS, CANCELLED, STALLED = 0, 1, 4
ABILITIES = (
    1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6
)  # version in CONNECT, acks, sizes, long ids, long bulks
FULL_SPEED = 1
PACKET = 64  # bytes, of every endpoint at full speed here
ADDRESS = 7  # QEMU keeps the guest's SET_ADDRESS for itself: the device gets this one
DEBOUNCE = 0.1  # seconds that a plug must be in, USB 2.0, 7.1.7.3
REST = 0.0005  # seconds without work


@dataclass
class Request:
    """A bulk transfer that the guest waits for."""

    number: int
    endpoint: int
    length: int
    data: bytearray = field(default_factory=bytearray)
    stream: int = 0


class Port:
    """Joins `device` to QEMU at the other end of `line`; counts what crosses, by kind."""

    def __init__(self, line: socket.socket, device: UsbDevice, note: Callable[[str], None]) -> None:
        self.crossed: Counter[str] = Counter()
        self.stalled: list[str] = []
        self._line, self._device, self._note = line, device, note
        self._in = bytearray()
        self._long = False  # ids of 64 bits
        self._shown, self._acked, self._since = False, True, 0.0
        self._waiting: dict[int, deque[Request]] = {}
        self._listening: set[int] = set()  # interrupt endpoints
        self._heard = 0
        line.setblocking(False)
        self._send(HELLO, 0, b"earkit".ljust(64, b"\0") + struct.pack("<I", ABILITIES))

    def work(self) -> None:
        """Let the device run for a while, and carry what there is in both directions.

        Raises:
            ConnectionError: QEMU has ended.
        """
        self._device.run()
        self._plug()
        busy = self._receive()
        for queue in self._waiting.values():
            busy |= self._move(queue)
        for endpoint in sorted(self._listening):
            if self._there() and (told := self._device.bulk_in(endpoint & 15)) is not None:
                self._heard += 1
                self._send(INTERRUPT, self._heard, struct.pack("<BBH", endpoint, SUCCESS, len(told)) + told)
        if not busy:
            time.sleep(REST)

    def _send(self, kind: int, number: int, body: bytes) -> None:
        header = struct.pack("<IIQ" if self._long else "<III", kind, len(body), number)
        self._line.setblocking(True)
        self._line.sendall(header + body)
        self._line.setblocking(False)

    def _receive(self) -> bool:
        try:
            data = self._line.recv(1 << 16)
        except BlockingIOError:
            return False
        if not data:
            raise ConnectionError("QEMU has ended")
        self._in += data
        while True:
            size = 16 if self._long else 12
            if len(self._in) < size:
                return True
            kind, length = struct.unpack_from("<II", self._in)
            if len(self._in) < size + length:
                return True
            number = int.from_bytes(self._in[8:size], "little")
            body = bytes(self._in[size : size + length])
            del self._in[: size + length]
            self._handle(kind, number, body)

    def _there(self) -> bool:
        """Return whether the guest has the device, and that its pull-up on."""
        return self._shown and self._device.attached

    def _plug(self) -> None:
        """Show the guest that the device's pull-up has come or gone."""
        if self._device.attached == self._shown or not self._long:
            self._since = time.monotonic()
        elif self._shown:
            self._shown, self._acked = False, False
            self._waiting.clear()
            self._listening.clear()
            self._send(DISCONNECT, 0, b"")
            self._note("unplugged")
        elif self._acked and time.monotonic() > self._since + DEBOUNCE:
            self._reset()
            device, configuration = self._descriptor(1, 18), self._descriptor(2, 9)
            self._configuration = self._descriptor(2, int.from_bytes(configuration[2:4], "little"))
            self._describe()
            self._send(CONNECT, 0, bytes((FULL_SPEED, *device[4:7], *device[8:14])))
            self._shown = True
            self._note("plugged in")

    def _reset(self) -> None:
        """Reset the bus and give the device an address, as every host does."""
        self._waiting.clear()
        self._device.reset()
        self._descriptor(1, 8)
        if self._device.control(struct.pack("<BBHHH", 0, 5, ADDRESS, 0, 0)) is None:
            raise ConnectionError("the device refuses its address")

    def _descriptor(self, kind: int, length: int) -> bytes:
        found = self._device.control(struct.pack("<BBHHH", 0x80, 6, kind << 8, 0, length))
        if found is None or len(found) > length:
            raise ConnectionError(f"descriptor {kind}: {found!r}")
        return found

    def _describe(self) -> None:
        """Tell QEMU the interfaces and endpoints of the configuration, as its descriptors have them."""
        interfaces: list[tuple[int, int, int, int]] = []
        kinds, intervals, owners, sizes = bytearray(b"\xff" * 32), bytearray(32), bytearray(32), [0] * 32
        kinds[0] = kinds[16] = 0
        sizes[0] = sizes[16] = PACKET
        rest = self._configuration
        while rest:
            if rest[1] == 4:
                interfaces.append((rest[2], rest[5], rest[6], rest[7]))
            elif rest[1] == 5:
                at = (rest[2] & 15) | (rest[2] & 0x80) >> 3
                kinds[at], intervals[at], owners[at] = rest[3] & 3, rest[6], interfaces[-1][0]
                sizes[at] = int.from_bytes(rest[4:6], "little")
            rest = rest[rest[0] :]
        columns = [bytes(column).ljust(32, b"\0") for column in zip(*interfaces, strict=True)]
        self._send(INTERFACES, 0, struct.pack("<I", len(interfaces)) + b"".join(columns))
        self._send(ENDPOINTS, 0, bytes(kinds + intervals + owners) + struct.pack("<32H", *sizes))

    def _handle(self, kind: int, number: int, body: bytes) -> None:
        if kind == HELLO:
            self._long = bool(int.from_bytes(body[64:68], "little") & 1 << 5)
        elif kind == DISCONNECT_ACK:
            self._acked = True
        elif not self._there():
            return  # on its way as the device went
        elif kind == RESET:
            self._reset()
            self.crossed["bus resets"] += 1
        elif kind == CONTROL:
            self._control(number, body)
        elif kind == BULK:
            self._bulk(number, body)
        elif kind == CANCEL:
            self._cancel(number)
        elif kind in (START_INTERRUPT, STOP_INTERRUPT):
            (self._listening.add if kind == START_INTERRUPT else self._listening.discard)(body[0])
            self._send(INTERRUPT_STATUS, number, bytes((SUCCESS, body[0])))
        else:
            self._choose(kind, number, body)

    def _choose(self, kind: int, number: int, body: bytes) -> None:
        """Carry out what QEMU tells by a message of its own: configurations and alternate settings."""
        if kind == SET_CONFIGURATION:
            status = self._asked(bytes((0, 9, body[0], 0, 0, 0, 0, 0)))[0]
            self._describe()
            self._send(CONFIGURATION, number, bytes((status, body[0])))
        elif kind == GET_CONFIGURATION:
            status, data = self._asked(bytes((0x80, 8, 0, 0, 0, 0, 1, 0)))
            self._send(CONFIGURATION, number, bytes((status, *data)).ljust(2, b"\0"))
        elif kind == SET_ALTERNATE:
            status = self._asked(bytes((1, 11, body[1], 0, body[0], 0, 0, 0)))[0]
            self._send(ALTERNATE, number, bytes((status, body[0], body[1])))
        elif kind == GET_ALTERNATE:
            status, data = self._asked(bytes((0x81, 10, 0, 0, body[0], 0, 1, 0)))
            self._send(ALTERNATE, number, bytes((status, body[0], *data)).ljust(3, b"\0"))
        else:
            raise ConnectionError(f"QEMU sends {kind}, which no device of full speed needs")

    def _asked(self, setup: bytes, data: bytes = b"") -> tuple[int, bytes]:
        """Return status and data of a control transfer."""
        answer = self._device.control(setup, data)
        self.crossed["control transfers"] += 1
        if answer is None:
            self.stalled.append(setup.hex(" "))
            return STALLED, b""
        return SUCCESS, answer

    def _control(self, number: int, body: bytes) -> None:
        endpoint, request, kind, _, value, index, length = struct.unpack_from("<BBBBHHH", body)
        setup = struct.pack("<BBHHH", kind, request, value, index, length)
        status, data = self._asked(setup, body[10:])
        told = len(data) if kind & 0x80 else length * (status == SUCCESS)
        header = struct.pack("<BBBBHHH", endpoint, request, kind, status, value, index, told)
        self._send(CONTROL, number, header + data)

    def _bulk(self, number: int, body: bytes) -> None:
        endpoint, _, low, stream, high = struct.unpack_from("<BBHIH", body)
        request = Request(number, endpoint, low | high << 16, bytearray(body[10:]), stream)
        self._waiting.setdefault(endpoint, deque()).append(request)

    def _move(self, queue: deque[Request]) -> bool:
        """Carry packets of the first transfers of an endpoint until one has to wait; tell if any moved."""
        moved = False
        while queue and self._there() and (done := self._packet(queue[0])) is not None:
            moved = True
            if done:
                self._end(queue.popleft(), SUCCESS)
        return moved

    def _packet(self, request: Request) -> bool | None:
        """Carry one packet; True: it was the transfer's last, None: NAK."""
        if request.endpoint & 0x80:
            packet = self._device.bulk_in(request.endpoint & 15)
            if packet is None:
                return None
            self.crossed["bytes in"] += len(packet)
            request.data += packet
            return len(packet) < PACKET or len(request.data) >= request.length
        if not self._device.bulk_out(request.endpoint, bytes(request.data[:PACKET])):
            return None
        self.crossed["bytes out"] += len(request.data[:PACKET])
        del request.data[:PACKET]
        return not request.data

    def _end(self, request: Request, status: int) -> None:
        inwards = bool(request.endpoint & 0x80)
        length = len(request.data) if inwards else request.length - len(request.data)
        header = struct.pack(
            "<BBHIH", request.endpoint, status, length & 0xFFFF, request.stream, length >> 16
        )
        self._send(BULK, request.number, header + (bytes(request.data) if inwards else b""))

    def _cancel(self, number: int) -> None:
        for queue in self._waiting.values():
            for request in [one for one in queue if one.number == number]:
                queue.remove(request)
                self._end(request, CANCELLED)
