"""Boards: one TOML a device, every key checked when it is loaded: microcontrollers; see also computers."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from boards.errors import UserError, hint
from boards.flashing import Bossac, Checked, DfuUtil, Esptool, MassStorage, Method, Stm32Rom, Swd, Uf2, UsbId

HERE = Path(__file__).parent
TITLE_CHARACTERS = 63  # that firmware/usb.c has room for
BOOT_BYTES = 0x8000  # the resident bootloader owns the first 32 KB of flash

Core = Literal[
    "cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"
]


class Memory(Checked):
    """One memory region, in bytes."""

    kind: Literal["flash", "ram"]
    origin: Annotated[int, Field(ge=0, lt=2**32)]
    size: Annotated[int, Field(gt=0, lt=2**32)]
    wait: Annotated[int, Field(ge=0, lt=1000)] = (
        0  # cycles that a read waits; of flash: weights are copied out of it
    )
    page: Annotated[int, Field(gt=0, lt=2**32)] = 4096  # of flash: bytes of the largest page, a power of two


class Serial(Checked):
    """The serial line to the board; `vid_pid` lists USB ids as `vvvv:pppp`."""

    baud: Annotated[int, Field(gt=0)] = 921_600
    vid_pid: tuple[str, ...] = ()


class Usb(Checked):
    """[usb]: the chip's own USB port carries the link in place of the UART; `id` is what it says it is."""

    id: UsbId


class Board(Checked):
    """A device: core, memories, how to flash it and how to talk to it."""

    name: str
    title: str
    kind: Literal["virtual", "mcu"]
    core: Core
    clock_hz: Annotated[int, Field(gt=0)]
    fpu: Literal["none", "single", "double"]
    dsp: bool
    mve: bool
    memory: dict[str, Memory]
    port: str  # firmware/ports/<port>.c
    wiring: dict[str, Annotated[int, Field(ge=0, lt=2**32)]] = Field(
        default_factory=dict
    )  # the port's macros: pin = 3 is EAR_PIN
    boot: Annotated[int, Field(ge=BOOT_BYTES, multiple_of=512)] = BOOT_BYTES  # at least one erasable page
    stack: Annotated[int, Field(ge=512, multiple_of=8)] = 8192  # bytes of `ram`
    emulator: Literal["unicorn", "qemu", "none"] = "none"
    machine: str = "mps3-an547"  # of QEMU
    emulated_flash: bool = True  # whether the emulator has the chip's flash controller
    proof: Literal["measured on hardware", "emulated", "untested on hardware"]
    flash: Annotated[tuple[Method, ...], Field(min_length=1)]  # in the order to try
    serial: Serial = Serial()
    usb: Usb | None = None
    stm32_rom: Stm32Rom | None = None
    uf2: Uf2 | None = None
    mass_storage: MassStorage | None = None
    swd: Swd | None = None
    dfu_util: DfuUtil | None = None
    esptool: Esptool | None = None
    bossac: Bossac | None = None
    microphone: str = "none: the host's microphone is streamed over the link"
    notes: str
    source: str

    @property
    def has_microphone(self) -> bool:
        """Return whether the board hears by itself."""
        return not self.microphone.startswith("none")

    @property
    def flash_memory(self) -> Memory:
        """Return the region that holds the bootloader and the application."""
        return self.memory["flash"]

    @property
    def ram_memory(self) -> Memory:
        """Return the fastest region of RAM: stack, static data, states, and as much arena as it holds."""
        return self.memory["ram"]

    @property
    def more_ram(self) -> dict[str, Memory]:
        """Return the other regions of RAM, the fastest first, as in the TOML: for what `ram` cannot hold."""
        return {name: m for name, m in self.memory.items() if m.kind == "ram" and name != "ram"}

    @property
    def plug(self) -> str:
        """Return what a user plugs in for the link."""
        if self.usb is not None:
            return "its USB"
        if self.serial.vid_pid:
            return "its debugger's USB"
        return "nothing" if self.kind == "virtual" else "a UART adapter"

    @property
    def proven(self) -> str:
        """Return what tables say of the firmware on this board."""
        return f"{self.proof} ({self.emulator})" if self.proof == "emulated" else self.proof

    @property
    def defines(self) -> dict[str, str]:
        """Return the macros that the port is compiled with."""
        hears = {"microphone": int(self.has_microphone)}
        numbers = {"clock_hz": self.clock_hz, "baud": self.serial.baud, **hears, **self.wiring}
        macros = {f"EAR_{name.upper()}": f"{number}u" for name, number in numbers.items()}
        if self.usb is not None:
            vendor, product = self.usb.id.split(":")
            named = {"EAR_USB_VENDOR": f"0x{vendor}u", "EAR_USB_PRODUCT": f"0x{product}u"}
            macros |= {**named, "EAR_USB_TITLE": f'"{self.title}"'}
        return macros

    @property
    def app_origin(self) -> int:
        """Return the address of the application image, behind the bootloader."""
        return self.flash_memory.origin + self.boot

    @property
    def app_size(self) -> int:
        """Return the bytes of flash that an application may use."""
        return self.flash_memory.size - self.boot

    @property
    def second_image(self) -> int:
        """Return the bytes from `app_origin` to the place of a second image, 0 without room for one."""
        paged = self.stm32_rom.pages if self.stm32_rom else ()
        page = max((size for _, size in paged), default=self.flash_memory.page)
        middle = self.app_origin + self.app_size // 2
        return max(0, middle // page * page - self.app_origin)


def names() -> list[str]:
    """Return the names of all microcontrollers' boards, sorted."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def load(name: str) -> Board:
    """Return the board `name`.

    Raises:
        UserError: there is no such board, or its TOML has a wrong or missing key.
    """
    if name not in names():
        computers = sorted(path.stem for path in (HERE / "computers").glob("*.toml"))
        if name in computers:
            raise UserError(f"{name} is a computer: firmware and its images are for microcontrollers")
        raise UserError(f"no board {name!r}; {hint(name, [*names(), *computers])}")
    return parse(name, (HERE / f"{name}.toml").read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Board:
    """Return the board that a TOML `text` describes; errors name `boards/<name>.toml` and the key."""
    place = f"boards/{name}.toml"
    try:
        board = Board.model_validate({"name": name, **tomllib.loads(text)})
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{place}: not TOML: {error}") from None
    except ValidationError as error:
        raise UserError(f"{place}: {_explain(error)}") from None
    for region in ("flash", "ram"):
        if region not in board.memory or board.memory[region].kind != region:
            raise UserError(f"{place}: needs [memory.{region}] with kind = {region!r}")
    if board.flash_memory.size <= board.boot:
        raise UserError(
            f"{place}: {board.flash_memory.size} B of flash: the bootloader alone takes {board.boot} B"
        )
    _check_methods(place, board)
    return board


def _check_methods(place: str, board: Board) -> None:
    _check_usb(place, board)
    for method in get_args(Method):
        listed, given = method in board.flash, getattr(board, method) is not None
        if listed and not given:
            raise UserError(f"{place}: flash lists {method!r}: its table [{method}] is missing")
        if given and not listed and method != "serial":
            raise UserError(f"{place}: [{method}] is given: list {method!r} in flash, or leave it out")
    if len(set(board.flash)) != len(board.flash):
        raise UserError(f"{place}: flash lists a method twice: {', '.join(board.flash)}")
    rom = board.stm32_rom
    if rom is not None and not rom.pages and not rom.mass_erase:
        raise UserError(f"{place}: stm32_rom.pages: needed where mass_erase = false")
    if (
        rom is not None
        and rom.pages
        and (paged := sum(n * size for n, size in rom.pages)) < board.flash_memory.size
    ):
        raise UserError(
            f"{place}: stm32_rom.pages: {paged} B of pages for {board.flash_memory.size} B of memory.flash"
        )


def _check_usb(place: str, board: Board) -> None:
    if board.usb is None:
        return
    if board.usb.id not in board.serial.vid_pid:
        raise UserError(f"{place}: usb.id: {board.usb.id} is not in serial.vid_pid: the port is found by it")
    title = board.title
    plain = title.isascii() and title.isprintable() and not set(title) & set('"\\')
    if len(title) > TITLE_CHARACTERS or not plain:
        raise UserError(
            f"{place}: title: {len(title)} characters: USB tells at most {TITLE_CHARACTERS}, of ASCII, "
            "without quotes"
        )


def _explain(error: ValidationError) -> str:
    # an unknown key comes first: it is often the misspelling of the one that is missing
    first: Any = max(error.errors(), key=lambda item: item["type"] == "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg']}"
    near = difflib.get_close_matches(key, list(Board.model_fields), n=1)
    return f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
