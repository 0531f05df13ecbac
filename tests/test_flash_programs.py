"""Programs and pyocd: what stand-ins for them get, and each failure in one line with its cure."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from serial.tools import list_ports

from boards.errors import UserError
from boards.flashing import Bossac, DfuUtil, Esptool, Swd
from firmware.compiler.build import Build, load
from kit import flash
from kit.flash import program, touch, whole

CHECK = """#!{python}
import sys
from pathlib import Path
here = Path(__file__).parent
given = sys.argv[1:]
calls = here / "calls"
calls.write_text((calls.read_text() if calls.exists() else "") + repr(given) + chr(10))
"""
DFU = (
    CHECK
    + """
address, file = given[given.index("--dfuse-address") + 1], Path(given[-1])
if given[-2] == "--download":
    assert address == "0x08000000", address
    (here / "memory").write_bytes(file.read_bytes())
else:
    start, length, leave = address.split(":")
    assert (given[-2], start, leave) == ("--upload", "0x08000000", "leave"), given
    memory = (here / "memory").read_bytes()
    assert int(length) == len(memory) and not file.exists()
    file.write_bytes(memory)
"""
)
KEEP = (
    CHECK
    + """
(here / "memory").write_bytes(Path(given[-1]).read_bytes())
"""
)


@pytest.fixture(scope="module")
def made(tiny_build: Path) -> Build:
    return load(tiny_build)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Give a function that puts a program first in PATH, alone there, and returns its folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(whole, "see", lambda build, port, number=None: port or "found")
    monkeypatch.setattr(list_ports, "comports", list)

    def put(name: str, text: str) -> Path:
        (folder / name).write_text(text.replace("{python}", sys.executable))
        (folder / name).chmod(0o755)
        return folder

    return put


def with_method(build: Build, method: str, table: Any) -> Build:
    board = build.board.model_copy(update={"kind": "mcu", "flash": (method,), method: table})
    return dataclasses.replace(build, board=board)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


Put = Callable[[str, str], Path]


def test_dfu_util_writes_and_reads_back(made: Build, stand_in: Put) -> None:
    folder = stand_in("dfu-util", DFU)
    build = with_method(made, "dfu_util", DfuUtil(vid_pid="0483:df11"))
    seen: list[tuple[str, int, int]] = []
    assert flash.flash(build, None, lambda *step: seen.append(step)).port == "found"
    data = whole.contents(build)
    assert (folder / "memory").read_bytes() == data
    assert [stage for stage, _, _ in seen] == ["write", "write", "verify"]
    assert len(calls(folder)) == 2
    assert all("'--device', ',0483:df11', '--alt', '0', '--dfuse-address'" in call for call in calls(folder))


def test_dfu_util_that_reads_back_something_else(made: Build, stand_in: Put) -> None:
    stand_in("dfu-util", DFU.replace("write_bytes(memory)", "write_bytes(memory[:-1] + b'?')"))
    build = with_method(made, "dfu_util", DfuUtil(vid_pid="0483:df11"))
    with pytest.raises(UserError, match="what dfu-util wrote does not read back"):
        flash.flash(build, None)


def test_dfu_util_that_fails_after_its_work_is_done(made: Build, stand_in: Put) -> None:
    late = DFU.replace("    start, length", "    pass\n    start, length")
    late = late.replace(
        "(file.read_bytes())\n", "(file.read_bytes())\n    sys.exit('File downloaded  successfully')\n"
    )
    stand_in("dfu-util", late)
    flash.flash(with_method(made, "dfu_util", DfuUtil(vid_pid="0483:df11", alt=1)), None)


def test_esptool_gets_chip_port_and_offset(made: Build, stand_in: Put) -> None:
    folder = stand_in("esptool.py", KEEP)
    build = with_method(made, "esptool", Esptool(chip="esp32s3", offset=0x10000))
    assert flash.flash(build, "/dev/ttyUSB0").port == "/dev/ttyUSB0"
    assert (folder / "memory").read_bytes() == whole.contents(build)
    (call,) = calls(folder)
    assert call.startswith(
        "['--chip', 'esp32s3', '--port', '/dev/ttyUSB0', '--baud', '921600', 'write_flash', '0x10000', '/"
    )


@pytest.mark.parametrize(("offset", "said"), [(0x4000, "'--offset=0x4000', "), (None, "")])
def test_bossac_gets_the_port_after_the_touch(
    made: Build, stand_in: Put, monkeypatch: pytest.MonkeyPatch, offset: int | None, said: str
) -> None:
    folder = stand_in("bossac", KEEP)
    touched: list[str] = []
    before = SimpleNamespace(device="/dev/ttyACM0", serial_number="A", vid=None)
    after = SimpleNamespace(device="/dev/ttyACM1", serial_number="A", vid=None)
    ports = [before]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    monkeypatch.setattr(touch, "touch", lambda port: (touched.append(port), ports.__setitem__(0, after)))
    build = with_method(made, "bossac", Bossac(offset=offset))
    flash.flash(build, "/dev/ttyACM0")
    assert touched == ["/dev/ttyACM0"]
    assert (folder / "memory").read_bytes() == whole.contents(build)
    (call,) = calls(folder)
    steps = "'--erase', '--write', '--verify', '--reset', '/"
    assert call.startswith(f"['--port=/dev/ttyACM1', '--usb-port=1', {said}{steps}")


METHODS = {
    "dfu_util": ("dfu-util", DfuUtil(vid_pid="0483:df11"), "sudo apt install dfu-util"),
    "esptool": ("esptool", Esptool(chip="esp32s3", offset=0), "pip install esptool"),
    "bossac": ("bossac", Bossac(touch=False), "sudo apt install bossa-cli"),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_is_missing_fails_or_hangs(
    made: Build, stand_in: Put, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    name, table, install = METHODS[method]
    build = with_method(made, method, table)
    with pytest.raises(UserError, match=f"^{name} is not installed: {install}$"):
        flash.flash(build, "/dev/ttyX")
    stand_in(name, CHECK + "sys.exit('No device\\nfound on ' + given[0])")
    with pytest.raises(
        UserError, match=rf"^{name} failed with 1 \(No device found on .*Press its reset twice"
    ):
        flash.flash(build, "/dev/ttyX")
    stand_in(name, CHECK + "sys.exit(3)")
    with pytest.raises(UserError, match=rf"^{name} failed with 3 \(it said nothing\)"):
        flash.flash(build, "/dev/ttyX")
    stand_in(name, CHECK + "import time; time.sleep(60)")
    monkeypatch.setattr(program, "PATIENCE", 0.3)
    with pytest.raises(UserError, match=f"^{name} did not end within 0 s: unplug the board"):
        flash.flash(build, "/dev/ttyX")
    stand_in(name, "#!/no/such/interpreter\n")
    with pytest.raises(
        UserError, match=f"{name} cannot be run .No such file or directory.: install it again"
    ):
        flash.flash(build, "/dev/ttyX")


class Chip:
    """What the stand-in for pyocd programs: flash that keeps `stuck` at zero."""

    def __init__(self) -> None:
        self.memory: dict[int, int] = {}
        self.stuck: int | None = None
        self.target = ""
        self.resets = 0
        self.failure: Exception | None = None
        self.error: type[Exception] = RuntimeError
        self.probes = [SimpleNamespace(unique_id="066A"), SimpleNamespace(unique_id="066B")]
        self.used = ""

    def reset(self) -> None:
        self.resets += 1

    def read_memory_block8(self, addr: int, size: int) -> list[int]:
        return [self.memory[addr + at] for at in range(size)]


def pyocd(chip: Chip) -> dict[str, dict[str, Any]]:
    """Return modules with pyocd's names, and the signatures of its 0.46, that program `chip`."""

    class Error(RuntimeError):
        pass

    class TargetSupportError(Error):
        pass

    class Session:
        def __init__(self, probe: Any, *, target_override: str) -> None:
            chip.used, chip.target = probe.unique_id, target_override
            self.target = chip

        def __enter__(self) -> Session:
            if chip.target == "unknown":
                raise TargetSupportError("Target type unknown not recognized")
            return self

        def __exit__(self, *_: object) -> None:
            pass

    class FileProgrammer:
        def __init__(self, session: Session, *, progress: Any, chip_erase: str, trust_crc: bool) -> None:
            assert chip_erase == "sector"
            assert not trust_crc
            self.progress = progress

        def program(self, file_or_path: io.BytesIO, file_format: str, *, base_address: int) -> None:
            assert file_format == "bin"
            if chip.failure:
                raise chip.failure
            data = file_or_path.read()
            chip.memory = {base_address + at: byte for at, byte in enumerate(data)}
            if chip.stuck is not None:
                chip.memory[chip.stuck] = 0
            for part in (0.0, 0.5, 1.0):
                self.progress(part)

    class ConnectHelper:
        @staticmethod
        def get_all_connected_probes(blocking: bool = True) -> list[Any]:
            assert not blocking
            return chip.probes

    chip.error = Error
    return {
        "pyocd": {},
        "pyocd.core": {},
        "pyocd.flash": {},
        "pyocd.core.exceptions": {"Error": Error, "TargetSupportError": TargetSupportError},
        "pyocd.core.session": {"Session": Session},
        "pyocd.core.helpers": {"ConnectHelper": ConnectHelper},
        "pyocd.flash.file_programmer": {"FileProgrammer": FileProgrammer},
    }


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Chip:
    """Give a chip that the stand-in for pyocd programs."""
    chip = Chip()
    for name, content in pyocd(chip).items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(whole, "see", lambda build, port: port)
    monkeypatch.setattr(
        list_ports, "comports", lambda: [SimpleNamespace(device="/dev/ttyACM0", serial_number="066B")]
    )
    return chip


def test_swd_programs_verifies_and_resets(made: Build, chip: Chip) -> None:
    build = with_method(made, "swd", Swd(target="stm32l4r5zitx"))
    seen: list[tuple[str, int, int]] = []
    assert flash.flash(build, "/dev/ttyACM0", lambda *step: seen.append(step)).port == "/dev/ttyACM0"
    data = whole.contents(build)
    origin = build.board.flash_memory.origin
    assert chip.memory == {origin + at: byte for at, byte in enumerate(data)}
    assert (chip.target, chip.resets, chip.used) == ("stm32l4r5zitx", 1, "066B")
    assert seen[-1] == ("verify", len(data), len(data))


def test_swd_failures_are_one_line_with_the_cure(
    made: Build, chip: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = with_method(made, "swd", Swd(target="x"))
    with pytest.raises(UserError, match=r"2 debug probes \(066A, 066B\): unplug all but one, or give --port"):
        flash.flash(build, None)
    del chip.probes[0]
    chip.stuck = build.board.flash_memory.origin + 0x234
    with pytest.raises(UserError, match=r"SWD: 0x08000234 does not read back.*pyocd erase --chip -t x"):
        flash.flash(build, None)
    assert chip.resets == 1
    chip.failure = chip.error("flash program\npage failure")
    with pytest.raises(UserError, match=r"^SWD: flash program page failure: check the cable"):
        flash.flash(build, None)
    with pytest.raises(UserError, match="pyocd does not know unknown: pyocd pack install unknown"):
        flash.flash(with_method(made, "swd", Swd(target="unknown")), None)
    chip.probes.clear()
    with pytest.raises(UserError, match=r"^no debug probe: plug one in"):
        flash.flash(build, None)
    monkeypatch.setitem(sys.modules, "pyocd.core.exceptions", None)
    with pytest.raises(UserError, match=r"^pyocd is missing: pip install 'earkit\[swd\]'$"):
        flash.flash(build, None)
