"""What a test sees of a USB device: a controller's stand-in with the board's image behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

PACKET = 64
SLICE = 300_000  # instructions that a chip gets between two tokens, unless it rests before
Handshake = str | tuple[bool, bytes]


class UsbDevice(Protocol):
    """A device of full speed as its cable shows it."""

    attached: bool  # the pull-up on D+

    def run(self) -> None:
        """Let the chip work on for a while."""

    def reset(self) -> None:
        """Reset the bus."""

    def control(self, setup: bytes, data: bytes = b"") -> bytes | None:
        """A whole control transfer: what the device answered; None: it stalled."""

    def bulk_out(self, endpoint: int, packet: bytes) -> bool:
        """One packet to the device; False: NAK."""

    def bulk_in(self, endpoint: int) -> bytes | None:
        """One packet from the device; None: NAK."""


class Bus(Protocol):
    """A chip as tokens of the bus reach it."""

    attached: bool
    rests: bool  # the core waits for an interrupt

    def work(self, most: int = 0) -> None:
        """Let the core run until it rests, at most `most` instructions."""

    def bus_reset(self) -> None:
        """Reset the bus."""

    def token_setup(self, address: int, data: bytes) -> bool:
        """SETUP; False: nobody answers."""

    def token_in(self, address: int, endpoint: int) -> Handshake | None:
        """IN: toggle and data, which are acknowledged, or "nak", "stall"; None: nobody answers."""

    def token_out(self, address: int, endpoint: int, toggle: bool, data: bytes) -> Handshake | None:
        """OUT: "ack", "nak" or "stall"; None: nobody answers."""


class BusError(AssertionError):
    """The device did what USB forbids, or nothing."""


class Host:
    """A strict host of one device, which is a UsbDevice to whoever uses it."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.address = bus, 0
        self.toggles: dict[int, bool] = {}  # by endpoint address, of the next packet
        self.naks = 20  # that a control transfer waits through

    @property
    def attached(self) -> bool:
        return self.bus.attached

    def run(self) -> None:
        self.bus.work(SLICE)

    def reset(self) -> None:
        self.bus.bus_reset()
        self.address, self.toggles = 0, {}
        self.run()

    def _patiently(self, what: str, token: Callable[[], Handshake | None]) -> Handshake:
        for _ in range(self.naks):
            found = token()
            if found is None:
                raise BusError(f"{what}: nobody answers at address {self.address}")
            if found != "nak":
                return found
            self.run()
        raise BusError(f"{what}: {self.naks} NAKs")

    def control(self, setup: bytes, data: bytes = b"") -> bytes | None:
        """A whole control transfer, its toggles and its status stage checked."""
        length, to_host = int.from_bytes(setup[6:8], "little"), bool(setup[0] & 0x80)
        if not self.bus.token_setup(self.address, setup):
            raise BusError(f"SETUP: nobody answers at address {self.address}")
        self.run()
        if to_host and length:
            answer = self._data_in(length)
            if answer is None:
                return None
            status = self._patiently("status", lambda: self.bus.token_out(self.address, 0, True, b""))
        else:
            if not self._data_out(data):
                return None
            answer = b""
            status = self._patiently("status", lambda: self.bus.token_in(self.address, 0))
            if isinstance(status, tuple) and status != (True, b""):
                raise BusError(f"status stage: {status}")
        if status == "stall":
            return None
        if setup[:2] == b"\0\5":
            self._moved(setup[2])
        elif setup[:2] in (b"\0\x09", b"\1\x0b"):  # 9.1.1.5: every endpoint from DATA0 on
            self.toggles = {}
        elif setup[:2] == b"\2\1":  # 9.4.5: halted no more, from DATA0 on
            self.toggles[setup[4]] = False
        self.run()
        return answer

    def _data_in(self, length: int) -> bytes | None:
        answer, toggle = b"", True
        while True:
            found = self._patiently("data", lambda: self.bus.token_in(self.address, 0))
            if found == "stall" and not answer:
                return None
            if not isinstance(found, tuple) or found[0] != toggle or len(found[1]) > PACKET:
                raise BusError(f"data stage after {len(answer)} bytes: {found!r}")
            answer, toggle = answer + found[1], not toggle
            if len(answer) > length:
                raise BusError(f"{len(answer)} bytes for {length}")
            if len(found[1]) < PACKET or len(answer) == length:
                return answer
            self.run()

    def _data_out(self, data: bytes) -> bool:
        toggle = True
        for at in range(0, len(data), PACKET):
            piece, odd = data[at : at + PACKET], toggle
            found = self._patiently("data", lambda p=piece, t=odd: self.bus.token_out(self.address, 0, t, p))  # type: ignore[misc]
            if found == "stall":
                return False
            toggle = not toggle
            self.run()
        return True

    def _moved(self, address: int) -> None:
        """The status stage went to the old address; 2 ms later the new one is in force, and only that."""
        self.run()
        if address != self.address and self.bus.token_in(self.address, 0) is not None:
            raise BusError(f"it still answers at address {self.address}")
        self.address = address

    def bulk_out(self, endpoint: int, packet: bytes) -> bool:
        if len(packet) > PACKET:
            raise ValueError(f"{len(packet)} bytes are no packet")
        toggle = self.toggles.get(endpoint, False)
        found = self.bus.token_out(self.address, endpoint, toggle, packet)
        if found == "ack":
            self.toggles[endpoint] = not toggle
        elif found != "nak":
            raise BusError(f"OUT {endpoint}: {found}")
        return found == "ack"

    def bulk_in(self, endpoint: int) -> bytes | None:
        key = endpoint | 0x80
        toggle = self.toggles.get(key, False)
        found = self.bus.token_in(self.address, endpoint & 0x7F)
        if found == "nak":
            return None
        if not isinstance(found, tuple) or found[0] != toggle or len(found[1]) > PACKET:
            raise BusError(f"IN {endpoint & 0x7F}: {found!r}, expected DATA{toggle:d}")
        self.toggles[key] = not toggle
        return found[1]
