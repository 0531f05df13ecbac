"""Why a serial port cannot be used, and the cure, on Linux, macOS and Windows."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable
from pathlib import Path

SYSTEM: str = sys.platform
RULE = (
    'SUBSYSTEM=="tty", ATTRS{idVendor}=="%s", MODE="0666", ENV{ID_MM_DEVICE_IGNORE}="1" '
    "in /etc/udev/rules.d/60-earkit.rules"
)
DEVICES = Path("/sys/bus/usb/devices")  # what is plugged in, on Linux


def explain(name: str, error: Exception, listing: str, vendor: str) -> str:
    """Return what is wrong with the port `name` and what to do; `vendor`: its USB vendor id, or ""."""
    number, text = getattr(error, "errno", None), str(error)
    if SYSTEM == "win32":  # pyserial gives no number there, but the name of the error
        number = {"PermissionError(": errno.EBUSY, "FileNotFoundError(": errno.ENOENT}.get(
            next((word for word in ("PermissionError(", "FileNotFoundError(") if word in text), ""), number
        )
    if number in (errno.EACCES, errno.EPERM):
        return f"{name}: no permission: {_permission(name, vendor)}"
    if number in (errno.EAGAIN, errno.EBUSY) or "exclusively lock" in text:
        probing = "; ModemManager asks a new port for some seconds" if SYSTEM == "linux" else ""
        return f"{name} is busy: another program has it open; close its serial monitor and try again{probing}"
    if number in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return f"{name}: no such port ({listing}): plug the board in, or name its port with --port{_driver()}"
    return f"{name} cannot be opened ({text}): name another port with --port ({listing})"


def _permission(name: str, vendor: str) -> str:
    if SYSTEM == "darwin":
        return (
            f"run `sudo chmod a+rw {name}`, or unplug the board and plug it in as the user who is logged in"
        )
    rule = RULE % (vendor or "vvvv")
    return f"run `sudo usermod -aG dialout $USER` and log in again, or add the udev rule {rule}"


def _driver() -> str:
    if SYSTEM == "win32":
        return (
            "; a device with a yellow sign in the Device Manager lacks its driver (Windows 10 brings usbser)"
        )
    return ""


def portless(wanted: Iterable[str], seen: Iterable[str]) -> tuple[str, str] | None:
    """Return the USB id of a board that is plugged in but has no serial port, and the cure; None without one.

    `wanted`, `seen`: USB ids `vvvv:pppp`, of boards and of this machine's ports.
    """
    looked_for = set(wanted) - set(seen)
    for device in sorted(DEVICES.glob("*")) if SYSTEM == "linux" else ():
        try:
            parts = [
                (device / part).read_text(encoding="ascii").strip() for part in ("idVendor", "idProduct")
            ]
        except (OSError, UnicodeDecodeError):  # an interface, or gone meanwhile
            continue
        if (identifier := ":".join(parts).lower()) in looked_for:
            return identifier, "`sudo modprobe cdc_acm` brings its driver"
    return None
