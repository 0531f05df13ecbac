"""Virtual boards: exact counts, named crashes, a bound on hanging, and flash that lasts."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import pytest
from small_firmware import REST, program

import boards
from boards import atomic
from boards.errors import UserError
from firmware.compiler.build import Build, load
from kit import unicorn_machine
from kit.device import Device
from kit.unicorn_machine import UnicornMachine
from kit.update import write_image
from kit.virtual import VirtualBoard

M4 = boards.load("virtual-m4")
UNICORN = [name for name in boards.names() if boards.load(name).emulator == "unicorn"]
QEMU = ["virtual-m55"]


def machine(text: str, name: str = "virtual-m4") -> UnicornMachine:
    board = boards.load(name)
    return UnicornMachine(board, program(text, board))


@pytest.fixture(scope="module")
def build(tiny_build: Path) -> Build:
    return load(tiny_build)


@pytest.mark.parametrize("name", UNICORN)
def test_a_known_loop_is_counted_exactly(name: str) -> None:
    # 1 before, 4 in each of 100 rounds, the load of the register's address; the resting store is not done yet
    assert machine("movs r0, #100\n1: adds r1, r0\n eors r2, r1\n subs r0, #1\n bne 1b\n" + REST, name).run(
        10_000
    )
    board = machine("movs r0, #100\n1: adds r1, r0\n eors r2, r1\n subs r0, #1\n bne 1b\n" + REST, name)
    board.run(10_000)
    assert board.instructions == 1 + 4 * 100 + 1


def test_wide_and_conditional_instructions_count_as_one() -> None:
    choice = "cmp r0, #3\n ite lo\n addlo.w r1, r1, #1\n addhs.w r2, r2, #1\n"
    body = f"movs r0, #7\n1: {choice} subs r0, #1\n bne 1b\n"
    board = machine(body + REST)
    board.run(10_000)
    assert board.instructions == 1 + 6 * 7 + 1


def test_the_count_does_not_depend_on_the_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "ldr r0, =3000\n1: push {r0, r1}\n pop {r0, r1}\n subs r0, #1\n bne 1b\n" + REST
    counts = set()
    for size in (100_000_000, 997, 100):
        monkeypatch.setattr(unicorn_machine, "SLICE", size)
        board = machine(body)
        assert board.run(1_000_000)
        counts.add(board.instructions)
    assert counts == {1 + 4 * 3000 + 1}


def test_the_count_is_that_of_unicorns_own_hook_on_each_instruction(build: Build) -> None:
    import unicorn

    board = UnicornMachine(build.board, build.boot)
    seen: list[int] = []
    board._core.hook_add(unicorn.UC_HOOK_CODE, lambda core, address, size, user: seen.append(address))
    assert board.run(10_000_000)
    resting = seen.pop()  # the store that rests is stopped, and done when the board wakes up
    assert resting == board._core.reg_read(unicorn.arm_const.UC_ARM_REG_PC) & ~1
    skipped = board.instructions - len(seen)  # that hook leaves out instructions whose condition fails
    assert 0 <= skipped < board.instructions / 50


@pytest.mark.parametrize("name", UNICORN)
def test_counting_is_repeatable(name: str) -> None:
    board = boards.load(name)
    text = "ldr r0, =1000\n1: muls r1, r0\n subs r0, #1\n bne 1b\n" + REST
    counts = {_count(board, program(text, board)) for _ in range(2)}
    assert len(counts) == 1


def _count(board: boards.Board, flash: bytes) -> int:
    emulated = UnicornMachine(board, flash)
    emulated.run(1_000_000)
    return emulated.instructions


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ldr r0, =0x50000000\n ldr r1, [r0]\n", r"crashed at PC 0x08\w+: .*0x50000000"),
        ("ldr r0, =0x08000100\n str r1, [r0]\n", r"crashed at PC 0x08\w+: .*0x08000100"),
        ("udf #0\n", r"crashed at PC 0x08000008: illegal instruction"),
        ("ldr r0, =0x60000001\n bx r0\n", r"crashed at PC 0x60000000: no code there"),
        ("1: push {r0-r7}\n b 1b\n", r"crashed at PC 0x0800\w+: .*0x1fffffe0"),
    ],
    ids=["load", "write to flash", "undefined", "jump away", "stack overflow"],
)
def test_a_crash_names_its_place(text: str, says: str) -> None:
    board = VirtualBoard(M4, program(text + REST, M4))
    with pytest.raises(UserError, match=says):
        board.read(0)
    with pytest.raises(UserError, match=says):  # it stays dead until somebody takes its power
        board.write(b"\0")


def test_a_hanging_board_is_given_up() -> None:
    board = VirtualBoard(M4, program("b .\n", M4), limit=1_000_000)
    with pytest.raises(UserError, match=r"does not answer: 1,000,000 instructions"):
        board.read(0)


@pytest.mark.parametrize(
    ("name", "text"),
    [("virtual-m0plus", "sdiv r0, r1, r2\n"), ("virtual-m0plus", "ldr r0, =0x20000001\n ldr r1, [r0]\n")],
    ids=["no divide", "no unaligned load"],
)
def test_a_small_core_refuses_what_it_lacks(name: str, text: str) -> None:
    with pytest.raises(UserError, match="crashed"):
        machine_of(name, text).run(1000)


def machine_of(name: str, text: str) -> UnicornMachine:
    source = boards.load("virtual-m4").model_copy(update={"memory": boards.load(name).memory})
    return UnicornMachine(boards.load(name), program(text + REST, source))  # assembled for a core that has it


def _flash_program(address: int, word: int, *, erase: bool) -> str:
    do_erase = "str r0, [r1, #0x1c]\n" if erase else ""
    return f"""
        ldr r1, =0x40000000
        ldr r0, ={address:#x}
        str r0, [r1, #0x18]
        {do_erase}
        ldr r0, ={word:#x}
        str r0, [r1, #0x20]
        ldr r2, [r1, #0x24]
        ldr r3, =0x20000000
        str r2, [r3]
    """


@pytest.mark.parametrize("start", [b"\xff", b"\x0f"])
@pytest.mark.parametrize("erase", [True, False])
def test_programming_clears_bits_and_erasing_sets_a_page(start: bytes, erase: bool) -> None:
    text = program(_flash_program(0x0800_9004, 0x3344_5566, erase=erase) + REST, M4)
    emulated = UnicornMachine(M4, text.ljust(M4.flash_memory.size, start))
    emulated.run(1000)
    before = 0xFF if erase else start[0]
    assert emulated.flash[0x9004:0x9008] == bytes(b & before for b in (0x66, 0x55, 0x44, 0x33))
    assert emulated.flash[0x9000:0x9004] == bytes([before]) * 4
    assert emulated.flash[0xA000:0xA004] == start * 4
    assert emulated._ram.raw[:4] == bytes(4)


@pytest.mark.parametrize("address", [0x0800_0000, 0x0800_7FFC, 0x0810_0000, 0x0800_9002, 0x2000_0000])
def test_the_flash_controller_keeps_to_its_bounds(address: int) -> None:
    emulated = machine(_flash_program(address, 0, erase=False) + REST)
    before = emulated.flash
    emulated.run(1000)
    assert emulated.flash == before
    assert emulated._ram.raw[:4] == b"\1\0\0\0"


@pytest.mark.parametrize("name", UNICORN)
def test_the_bootloader_answers_on_every_board(name: str, boot_of: dict[str, bytes]) -> None:
    with Device(VirtualBoard(boards.load(name), b"", boot=boot_of[name])) as device:
        info = device.info()
        assert (info.mode, info.app_bytes) == ("boot", boards.load(name).app_size)


@pytest.fixture(scope="module")
def boot_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    from firmware.compiler import build as builds
    from firmware.compiler.elf import Elf

    folder, found = tmp_path_factory.mktemp("boot"), {}
    for name in (*UNICORN, *QEMU):
        board, out = boards.load(name), folder / f"{name}.elf"
        builds._boot(out, board, "zig")
        found[name] = Elf(out.read_bytes()).image(board.flash_memory.origin)
    return found


@pytest.mark.parametrize("name", [*UNICORN, *QEMU])
def test_the_bootloader_leaves_half_of_its_place(name: str, boot_of: dict[str, bytes]) -> None:
    assert len(boot_of[name]) <= 16 * 1024


def test_flash_lasts_in_its_file(tmp_path: Path, build: Build) -> None:
    file = tmp_path / "board.flash"
    with Device(VirtualBoard(build.board, file, boot=build.boot)) as device:
        write_image(device, build.image)
    with Device(VirtualBoard(build.board, file)) as device:
        assert device.info().build_id == build.build_id
    assert [path.name for path in tmp_path.iterdir()] == ["board.flash"]


def test_two_boards_on_one_file_leave_a_whole_one(tmp_path: Path, build: Build) -> None:
    file = tmp_path / "board.flash"
    one = Device(VirtualBoard(build.board, file, boot=build.boot))
    two = Device(VirtualBoard(build.board, file, boot=build.boot))
    write_image(one, build.image)
    write_image(two, build.image)
    one.close()
    two.close()
    with Device(VirtualBoard(build.board, file)) as device:
        assert device.info().build_id == build.build_id


def test_a_place_that_cannot_be_written_does_not_stop_the_board(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(atomic, "write", refuse)
    with Device(VirtualBoard(build.board, tmp_path / "board.flash", boot=build.boot)) as device:
        write_image(device, build.image)
        device.reset("app")
        assert device.info().build_id == build.build_id
    assert list(tmp_path.iterdir()) == []


def test_a_flash_file_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "board.flash").write_bytes(b"short")
    with pytest.raises(UserError, match=r"board\.flash has 5 bytes.*delete"):
        VirtualBoard(M4, tmp_path / "board.flash")


def test_a_real_board_is_no_virtual_one() -> None:
    real = M4.model_copy(update={"emulator": "none", "name": "real"})
    with pytest.raises(UserError, match="--port"):
        VirtualBoard(real, b"")


def test_an_overwritten_guard_is_seen(build: Build) -> None:
    wire = VirtualBoard(build.board, build.boot.ljust(boards.BOOT_BYTES, b"\xff") + build.image)
    with Device(wire) as device:
        assert device.memory().stack_intact
        assert device.memory().arena_intact
        emulated = wire._machine
        assert isinstance(emulated, UnicornMachine)
        ctypes.memset(ctypes.addressof(emulated._ram), 0, 4)  # the lowest word of the stack
        assert not device.memory().stack_intact
        painted = emulated._ram.raw.index(b"\xa5" * 16, 8192)  # the guard before the arena
        ctypes.memset(ctypes.addressof(emulated._ram) + painted, 0, 1)
        assert not device.memory().arena_intact


def test_qemu_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="sudo apt install qemu-system-arm"):
        VirtualBoard(boards.load(QEMU[0]), b"")


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")
@pytest.mark.parametrize("name", QEMU)
def test_qemu_boards_flash_run_and_count(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    import numpy as np

    from firmware.compiler import interp
    from kit import device, pipeline

    pipeline.compile(tiny_bundle, name, tmp_path / "build")
    made = load(tmp_path / "build")
    with device.open(made, None) as board:
        assert board.info().build_id == made.build_id
        x = np.random.default_rng(0).integers(
            -128, 128, made.graph.tensors[made.graph.inputs[0]].shape, np.int8
        )
        (expected,) = interp.run(made.graph, [x])
        counts = [board.profile(x) for _ in range(2)]
        assert np.array_equal(counts[0].output, expected.ravel())
        assert abs(counts[0].total - counts[1].total) <= 4  # SysTick rounds to its tick
        assert counts[0].total == pytest.approx(sum(counts[0].per_node), abs=4 * len(made.graph.nodes) + 8)
        assert board.memory().arena_intact
    with device.open(made, None) as board:  # from its flash file, without flashing
        assert np.array_equal(board.infer(x), expected.ravel())
    assert not [path for path in os.listdir(tmp_path / "build") if path.endswith(".tmp")]
