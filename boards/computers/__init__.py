"""Computers: boards that run an operating system or a browser. One TOML each, every key checked."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from boards.errors import UserError, hint
from boards.flashing import Checked

HERE = Path(__file__).parent

Kind = Literal["linux", "jetson", "android", "ios", "browser"]
Machine = Literal["x86_64", "aarch64", "armv7", "wasm32"]  # as `uname -m` says it, armv7l but for its l


class Computer(Checked):
    """A device with an operating system: its processor, and what proves the software on it.

    `core` is the processor's in tables, `cpu` the one that zig compiles for: the least of its kind.
    """

    name: str
    title: str
    kind: Kind
    machine: Machine
    core: str
    cpu: str
    cores: Annotated[int, Field(gt=0)] | None = None  # None where the kind stands for many devices
    clock_hz: Annotated[int, Field(gt=0)] | None = None
    ram_bytes: Annotated[int, Field(gt=0)] | None = None  # of the smallest that is sold
    gpu: Annotated[str, Field(pattern=r"^(sm_\d+)?$")] = ""  # CUDA's name of its architecture
    proof: Literal["measured on hardware", "emulated", "untested on hardware"]
    emulator: Literal["none", "qemu-user", "chromium"] = "none"  # that `proof` speaks of
    microphone: str
    notes: str
    source: str

    @property
    def proven(self) -> str:
        """Return what tables say of the software on this device."""
        return f"{self.proof} ({self.emulator})" if self.proof == "emulated" else self.proof


def names() -> list[str]:
    """Return the names of all computers, sorted."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def load(name: str) -> Computer:
    """Return the computer `name`.

    Raises:
        UserError: there is no such computer, or its TOML has a wrong or missing key.
    """
    if name not in names():
        raise UserError(f"no computer {name!r}; {hint(name, names())}")
    return parse(name, (HERE / f"{name}.toml").read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Computer:
    """Return the computer that a TOML `text` describes; errors name its file and the key."""
    place = f"boards/computers/{name}.toml"
    try:
        return Computer.model_validate({"name": name, **tomllib.loads(text)})
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{place}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{place}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
