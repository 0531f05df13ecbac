"""From a .tflite to firmware: what is written, that it is whole or not there, and every way to be refused."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tflite_writer as tfl

import boards
from boards.errors import UserError
from firmware.compiler import build, folder, image, toolchain
from firmware.compiler.elf import Elf
from firmware.compiler.graph import ModelError
from kit import device

Q = (0.1, 3)
M4 = boards.load("virtual-m4")


def dense(inputs: int = 8, outputs: int = 4) -> bytes:
    x, y = tfl.Value("x", (1, inputs), "int8", *Q), tfl.Value("scores", (1, outputs), "int8", *Q)
    w = tfl.constant("layer/weights", np.full((outputs, inputs), 5), "int8", 0.02)
    return tfl.model([x], [tfl.Op("FULLY_CONNECTED", [x, w], [y], {}, 4)], [], [y])


def wide(rows: int) -> bytes:
    x, p, y = (
        tfl.Value("sound", (1, rows, 32, 1), "int8", *Q),
        tfl.Value("block/conv", (1, rows, 32, 16), "int8", *Q),
        tfl.Value("y", (1, 1, 1, 16), "int8", *Q),
    )
    w = tfl.constant("w", np.ones((16, 1, 1, 1)), "int8", 0.02)
    conv = {"padding": "SAME", "stride_w": 1, "stride_h": 1}
    pool = {"padding": "VALID", "stride_w": 1, "stride_h": 1, "filter_width": 32, "filter_height": rows}
    nodes = [tfl.Op("CONV_2D", [x, w], [p], conv, 3), tfl.Op("AVERAGE_POOL_2D", [p], [y], pool, 2)]
    return tfl.model([x], nodes, [], [y])


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", [name for name in boards.names() if boards.load(name).kind == "virtual"])
def test_builds_for_each_virtual_board(name: str, tmp_path: Path) -> None:
    board = boards.load(name)
    made = build.compile_model(dense(), board, tmp_path / "out", name="dense")
    assert leftovers(tmp_path) == ["out"]
    assert leftovers(made.path) == sorted((*build.FILES, "build.json"))
    header = image.unpack(made.image)
    assert header.build_id == made.build_id
    assert len(made.image) <= board.app_size
    assert len(made.boot) <= boards.BOOT_BYTES
    sizes = made.sizes
    assert sizes["flash_bytes"]["total"] == len(made.image) == (made.path / "firmware.bin").stat().st_size
    assert sizes["flash_bytes"]["code"] + sizes["flash_bytes"]["weights"] == sizes["flash_bytes"]["total"]
    assert sizes["ram_bytes"]["total"] == sum(v for k, v in sizes["ram_bytes"].items() if k != "total")
    assert sizes["ram_bytes"]["total"] < board.ram_memory.size
    assert sizes["macs"] == 32
    stack, entry = np.frombuffer(made.image, "<u4", 2, image.HEADER_BYTES)
    assert board.ram_memory.origin < stack <= board.ram_memory.origin + board.ram_memory.size
    assert board.app_origin < entry < board.app_origin + board.app_size


def test_sizes_come_from_the_linked_file(tmp_path: Path) -> None:
    made = build.compile_model(dense(), M4, tmp_path / "out", name="dense")
    elf = Elf((made.path / "firmware.elf").read_bytes())
    static = sum(s.size for s in elf.sections() if s.name in (".data", ".bss"))
    ram = made.sizes["ram_bytes"]
    assert ram["static"] + ram["arena"] == static
    assert "ear_model_invoke" in elf.symbols()


def test_load_gives_what_compile_gave(tmp_path: Path) -> None:
    made = build.compile_model(
        dense(),
        M4,
        tmp_path / "out",
        name="d",
        frontend={"bands": 2},
        bundle={"labels": ["a", "b,}"], "task": "t"},
    )
    again = build.load(tmp_path / "out")
    assert (again.build_id, again.image, again.boot, again.sizes) == (
        made.build_id,
        made.image,
        made.boot,
        made.sizes,
    )
    assert again.labels == ("a", "b,}")
    assert again.frontend == {"bands": 2}
    assert json.loads((tmp_path / "out" / "build.json").read_text())["task"] == "t"


@pytest.mark.parametrize("kind", ["zig", "gcc"])
def test_a_model_that_only_reshapes_has_no_nodes(kind: toolchain.Toolchain, tmp_path: Path) -> None:
    if kind == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    x, y = tfl.Value("x", (1, 2, 4), "int8", 0.1), tfl.Value("y", (1, 8), "int8", 0.1)
    shape = tfl.constant("shape", [1, 8])
    model = tfl.model([x], [tfl.Op("RESHAPE", [x, shape], [y])], [], [y])
    made = build.compile_model(model, M4, tmp_path / "out", name="same", toolchain=kind)
    data = np.arange(8, dtype=np.int8)
    with device.open(made, None) as board:
        np.testing.assert_array_equal(board.infer(data).ravel(), data)
        assert board.profile(data).per_node == ()


def test_build_id_follows_model_and_board(tmp_path: Path) -> None:
    ids = {
        build.compile_model(model, board, tmp_path / "out", name="d").build_id
        for model, board in ((dense(), M4), (dense(12), M4), (dense(), boards.load("virtual-m33")))
    }
    assert len(ids) == 3
    assert build.compile_model(dense(), M4, tmp_path / "out", name="d").build_id in ids


def test_gcc_builds_too(tmp_path: Path) -> None:
    try:
        toolchain.driver("gcc")
    except UserError as error:
        pytest.skip(str(error))
    made = build.compile_model(dense(), M4, tmp_path / "out", name="d", toolchain="gcc")
    assert "gcc" in json.loads((made.path / "build.json").read_text())["toolchain"]


def test_too_big_for_ram_gives_numbers_largest_and_cure(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        build.compile_model(wide(1000), M4, tmp_path / "out", name="wide")
    message = str(caught.value)
    assert message.startswith(
        "wide needs 508 KB RAM, virtual-m4 has 256 KB (largest: block/conv, 500 KB): use "
    )
    assert leftovers(tmp_path) == []


def test_too_big_for_flash_gives_numbers_largest_and_cure(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        build.compile_model(dense(2000, 600), M4, tmp_path / "out", name="deep")
    assert re.search(r"deep needs 11\d\d KB flash, virtual-m4 has 992 KB", str(caught.value))
    assert "layer/weights, 1172 KB" in str(caught.value)
    assert leftovers(tmp_path) == []


def test_overflow_that_only_the_linker_sees(tmp_path: Path) -> None:
    """Weights alone fit; with the code they do not."""
    with pytest.raises(UserError, match=r"deep needs \d+ KB flash, virtual-m4 has 992 KB"):
        build.compile_model(dense(2000, 505), M4, tmp_path / "out", name="deep")
    with pytest.raises(UserError, match=r"wide needs \d+ KB RAM, virtual-m4 has 256 KB"):
        build.compile_model(wide(492), M4, tmp_path / "out", name="wide")
    assert leftovers(tmp_path) == []


def test_a_bad_model_leaves_the_old_build_alone(tmp_path: Path) -> None:
    made = build.compile_model(dense(), M4, tmp_path / "out", name="d")
    with pytest.raises(ModelError):
        build.compile_model(b"TFL3 no", M4, tmp_path / "out", name="d")
    assert build.load(tmp_path / "out").build_id == made.build_id
    assert leftovers(tmp_path) == ["out"]


def test_someone_elses_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not a build"):
        build.compile_model(dense(), M4, tmp_path, name="d")
    assert leftovers(tmp_path) == ["precious.txt"]


def test_no_permission_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(UserError, match="Permission denied: choose another -o"):
        build.compile_model(dense(), M4, tmp_path / "out", name="d")


def test_disk_full_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder, "write_json", full)
    with pytest.raises(UserError, match="No space left on device"):
        build.compile_model(dense(), M4, tmp_path / "out", name="d")
    assert leftovers(tmp_path) == []


def test_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(toolchain, "compile_object", stop)
    with pytest.raises(KeyboardInterrupt):
        build.compile_model(dense(), M4, tmp_path / "out", name="d")
    assert leftovers(tmp_path) == []


def test_missing_toolchain_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain.driver.cache_clear()
    toolchain.version.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt install gcc-arm-none-eabi"):
        build.compile_model(dense(), M4, tmp_path / "out", name="d", toolchain="gcc")
    toolchain.driver.cache_clear()


@pytest.mark.parametrize("file", ["firmware.bin", "model.tflite", "build.json"])
def test_a_damaged_build_says_compile_again(file: str, tmp_path: Path) -> None:
    build.compile_model(dense(), M4, tmp_path / "out", name="d")
    path = tmp_path / "out" / file
    path.write_bytes(path.read_bytes()[:-7] + b"garbage")
    with pytest.raises(UserError, match="compile again"):
        build.load(tmp_path / "out")
    path.unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        build.load(tmp_path / "out")


def test_compile_is_quick_with_a_warm_cache(kws_model: Path, tmp_path: Path) -> None:
    data = kws_model.read_bytes()
    build.compile_model(data, M4, tmp_path / "out", name="kws")
    seconds = build.compile_model(data, M4, tmp_path / "out", name="kws").sizes["seconds"]
    assert 0 < seconds < 2 * max(1, os.getloadavg()[0] / (os.cpu_count() or 1))
