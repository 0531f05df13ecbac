"""What a test sees of a USB device: a stand-in of the controller with the board's image behind it."""

from typing import Protocol


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
