"""What each flash method must know of a board: one table of its TOML a method, every key checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Method = Literal["serial", "stm32_rom", "uf2", "mass_storage", "swd", "dfu_util", "esptool", "bossac"]
Line = Literal["rts", "dtr", "!rts", "!dtr", "none"]  # a modem line; ! when it drives the pin the other way
Name = Annotated[str, Field(min_length=1)]
UsbId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
Positive = Annotated[int, Field(gt=0)]

UF2_FAMILIES = {  # microsoft/uf2, utils/uf2families.json
    "rp2040": 0xE48BFF56,
    "rp2350-arm-s": 0xE48BFF59,
    "nrf52840": 0xADA52840,
    "samd21": 0x68ED2B88,
    "samd51": 0x55114460,
    "stm32f4": 0x57755A57,
    "esp32s3": 0xC47E5767,
}


class Checked(BaseModel):
    """A table whose every key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stm32Rom(Checked):
    """[stm32_rom]: the system bootloader in the ROM of every STM32, over a UART (AN3155).

    `chip_id` is the answer to GET ID (AN2606). `pages` lists runs of (how many, bytes of each) from the start
    of flash; without it only a mass erase works. The lines are those that pull BOOT0 and NRST: an asserted
    line is low. Not `same_port`: the firmware talks on another port than the ROM, found by its USB id.
    """

    chip_id: Annotated[int, Field(gt=0, lt=0x1000)]
    pages: tuple[tuple[Positive, Positive], ...] = ()
    mass_erase: bool = True  # STM32L0 and L1 have none
    block: Literal[128, 256] = 256  # bytes of a write: 128 on STM32L0
    baud: Annotated[int, Field(ge=1200, le=1_000_000)] = 115_200
    parity: Literal["even", "none"] = "even"
    boot0: Line = "rts"
    reset: Line = "dtr"
    same_port: bool = True

    @property
    def idle(self) -> dict[str, bool]:
        """Return how the modem lines stand (True: asserted) while BOOT0 is low and the chip runs."""
        return level(self.reset, high=True) | level(self.boot0, high=False)


def level(line: Line, *, high: bool) -> dict[str, bool]:
    """Return which modem line to assert or not, by name, so that the pin behind it is high or low."""
    return {} if line == "none" else {line.removeprefix("!"): high == line.startswith("!")}


class Uf2(Checked):
    """[uf2]: a bootloader that shows a drive with INFO_UF2.TXT, whose Board-ID begins with `board_id`.

    `touch`: opening the port at 1200 baud starts that bootloader.
    """

    family: Literal["rp2040", "rp2350-arm-s", "nrf52840", "samd21", "samd51", "stm32f4", "esp32s3"]
    board_id: Name
    touch: bool = True


class MassStorage(Checked):
    """[mass_storage]: the drive of an ST-LINK or DAPLink, known by its volume label.

    `codes`: first four digits of the probe's id on the drive (DETAILS.TXT, MBED.HTM), where boards share a
    label. A .bin begins at the chip's own flash origin; `hex` where `memory.flash.origin` is another address.
    """

    labels: Annotated[tuple[Name, ...], Field(min_length=1)]
    codes: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{4}$")], ...] = ()
    format: Literal["bin", "hex"] = "bin"


class Swd(Checked):
    """[swd]: a debug probe through pyocd; `target` is its name of the chip (`pyocd list --targets`)."""

    target: Name


class DfuUtil(Checked):
    """[dfu_util]: a USB DFU bootloader that takes addresses (DfuSe), through the program dfu-util."""

    vid_pid: UsbId
    alt: Annotated[int, Field(ge=0, lt=256)] = 0
    touch: bool = False


class Esptool(Checked):
    """[esptool]: the ROM of an ESP32, through the program esptool; `offset` is where in flash it goes."""

    chip: Name
    offset: Annotated[int, Field(ge=0, lt=2**32)]


class Bossac(Checked):
    """[bossac]: a SAM-BA bootloader, through the program bossac.

    `offset`: bytes from the start of flash; None where bossac knows it.
    """

    offset: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    touch: bool = True
