"""A wire to a board over the simulated bus, for kit's own Device: the port comes back after a reset."""

from __future__ import annotations

import struct

from usb_host import PACKET, BusError, Host

OUT, IN = 2, 0x82
GET_DEVICE, GET_CONFIGURATION = bytes.fromhex("8006000100004000"), bytes.fromhex("800600020000FF00")
CONFIGURE = bytes.fromhex("0009010000000000")
LINE_CODING, LINE_STATE = 0x20, 0x22
PATIENCE = 400  # runs of the chip


def enumerate_device(host: Host, address: int = 5) -> tuple[bytes, bytes]:
    """Do what an operating system does with a new device; return its descriptors."""
    host.reset()
    first = host.control(GET_DEVICE)
    host.reset()
    assert host.control(struct.pack("<BBHHH", 0, 5, address, 0, 0)) == b""
    device, configuration = host.control(GET_DEVICE), host.control(GET_CONFIGURATION)
    assert device == first
    assert device
    assert configuration
    assert host.control(CONFIGURE) == b""
    host.toggles = {}
    return device, configuration


def line_coding(host: Host, baud: int) -> None:
    """Set the line's speed."""
    data = struct.pack("<IBBB", baud, 0, 0, 8)
    assert host.control(struct.pack("<BBHHH", 0x21, LINE_CODING, 0, 0, 7), data) == b""


def line_state(host: Host, dtr: bool) -> None:
    """Set DTR, and RTS with it."""
    assert host.control(struct.pack("<BBHHH", 0x21, LINE_STATE, 3 * dtr, 0, 0)) == b""


class UsbWire:
    """The serial port of a device: opened once it is there, lost and found again as it detaches."""

    live = False

    def __init__(self, host: Host) -> None:
        self.host, self.name = host, "usb"
        self.connected = False
        self.connections = 0

    def _connect(self) -> bool:
        if self.connected and self.host.attached:
            return True
        self.connected = False
        for _ in range(PATIENCE):
            if self.host.attached:
                break
            self.host.run()
        else:
            return False
        enumerate_device(self.host)
        line_coding(self.host, 115_200)
        line_state(self.host, dtr=True)
        self.connected = True
        self.connections += 1
        return True

    def read(self, timeout: float) -> bytes:
        """Return what comes until the chip rests."""
        if not self._connect():
            return b""
        found, silent = b"", 0
        for _ in range(PATIENCE):
            self.host.run()
            if not self.host.attached:
                return found
            packet = self.host.bulk_in(IN)
            found += packet or b""
            silent = silent + 1 if packet is None and (found or self.host.bus.rests) else 0
            if silent == 2:  # frames
                return found
        return found

    def write(self, data: bytes) -> None:
        """Send it all."""
        if not self._connect():
            return
        for at in range(0, len(data), PACKET):
            for _ in range(PATIENCE):
                if self.host.bulk_out(OUT, data[at : at + PACKET]):
                    break
                self.host.run()
            else:
                raise BusError(f"{PATIENCE} NAKs")

    def close(self) -> None:
        """Leave the port: DTR low."""
        if self.connected and self.host.attached:
            line_state(self.host, dtr=False)
