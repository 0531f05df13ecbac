"""A debug probe over SWD, through pyocd (the extra `swd`): CMSIS-DAP, ST-LINK, J-Link."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

from boards.errors import UserError
from kit.flash import touch, whole
from kit.progress import Progress

if TYPE_CHECKING:
    from firmware.compiler.build import Build


def flash(build: Build, port: str | None, progress: Progress) -> str:
    """Program bootloader and application, read them back, reset; return the port that answers then.

    Of several probes the one is meant that has the serial number of `port`.

    Raises:
        UserError: pyocd or the probe is missing, the chip does not take it, or the board does not answer.
    """
    board, table = build.board, build.board.swd
    assert table is not None  # boards.parse: a listed method has its table
    try:
        from pyocd.core.exceptions import Error, TargetSupportError
        from pyocd.core.session import Session
        from pyocd.flash.file_programmer import FileProgrammer
    except ModuleNotFoundError:
        raise UserError("pyocd is missing: pip install 'earkit[swd]'") from None
    logging.getLogger("pyocd").setLevel(logging.CRITICAL)  # what it logs as an error, it also raises
    data, origin = whole.contents(build), board.flash_memory.origin

    def percent(part: float) -> None:
        progress("write", int(part * len(data)), len(data))

    try:
        with Session(_probe(port), target_override=table.target) as session:
            FileProgrammer(session, progress=percent, chip_erase="sector", trust_crc=False).program(
                io.BytesIO(data), "bin", base_address=origin
            )
            found = bytes(session.target.read_memory_block8(origin, len(data)))
            progress("verify", len(data), len(data))
            session.target.reset()
    except TargetSupportError:
        raise UserError(f"pyocd does not know {table.target}: pyocd pack install {table.target}") from None
    except (Error, OSError, ValueError) as error:  # ValueError: no memory there
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"SWD: {said}: check the cable and the supply, unplug the probe and plug it in"
        ) from None
    if found != data:
        at = next(at for at, (a, b) in enumerate(zip(found, data, strict=False)) if a != b)
        raise UserError(
            f"SWD: {origin + at:#010x} does not read back as written: is the flash write-protected? "
            f"`pyocd erase --chip -t {table.target}`, then flash it again"
        )
    return whole.see(build, port)


def _probe(port: str | None) -> Any:
    """Return the probe to use.

    Raises:
        UserError: none is plugged in, or several and `port` tells none of them.
    """
    from pyocd.core.helpers import ConnectHelper

    probes = ConnectHelper.get_all_connected_probes(blocking=False)
    if len(probes) > 1:
        number = touch.serial_number(port)
        named = [probe for probe in probes if probe.unique_id == number]
        names = ", ".join(str(probe.unique_id) for probe in probes)
        if len(named) != 1:
            raise UserError(
                f"{len(probes)} debug probes ({names}): unplug all but one, or give --port of one"
            )
        return named[0]
    if not probes:
        raise UserError(
            "no debug probe: plug one in; if it is, allow it: "
            "https://github.com/pyocd/pyOCD/tree/main/udev has the udev rules"
        )
    return probes[0]
