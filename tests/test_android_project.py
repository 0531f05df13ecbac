"""The Android project: its C hears what the host hears, bit for bit; XML, Kotlin and assets are whole."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
import tree_sitter
import tree_sitter_kotlin
from conftest import earkit

from kit import host_board, pipeline
from kit.detect import USUAL, Limits, Smoother, Trigger
from quantize import bundle as bundles

HERE = Path(__file__).parent
ZOO = HERE.parent / "models" / "zoo"
FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-DEAR_MICROPHONE=1")
CPP = "app/src/main/cpp"
MACHINES = (("aarch64-linux-none", "generic"), ("x86_64-linux-none", "x86_64_v2"))  # the app's two ABIs
HARSH = 'it\'s "<b>" & $x \\'


def compiled(folder: Path, *more: str | Path) -> None:
    units = sorted(path.name for path in (folder / CPP).glob("*.c"))
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-I", HERE / "jni", *units, *more]
    done = subprocess.run([*map(str, command)], cwd=folder / CPP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tones(seconds: int, rate: int) -> npt.NDArray[np.int16]:
    """Return tones that change, under noise that comes and goes: something for several labels."""
    rng, time = np.random.default_rng(0), np.arange(seconds * rate) / rate
    noise = rng.normal(size=time.size) * 2000 * (np.sin(time) > 0)
    made = noise + 8000 * np.sin(2 * np.pi * (300 + 200 * (time // 2)) * time)
    return made.clip(-32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("android") / "app"
    pipeline.export(ZOO / "tiny_transformer-micro-fsdd.zip", "android", out)
    return out


def hears_as(board: host_board.HostBoard, folder: Path, program: Path) -> int:
    """Drive jni.c as Listener.kt does; outputs, events and means are those of `board` and kit.detect.

    Returns the number of events.
    """
    sound = tones(8, board.meant.fe.sample_rate)
    compiled(folder, HERE / "jni" / "host.c", "-o", program)
    done = subprocess.run(
        [program, "333"], input=sound.tobytes(), capture_output=True, check=True, timeout=60
    )
    said: dict[str, list[list[int]]] = {}
    for line in done.stdout.decode().splitlines():
        what, *numbers = line.split()
        said.setdefault(what, []).append([int(number) for number in numbers])
    limits = Limits.of(board.meant, USUAL)
    smoother, trigger = Smoother(limits.averaged), Trigger(limits)
    events = 0
    results = list(board.stream([sound], board.meant.hop_frames))
    assert len(results) == len(said["output"]) > 20
    for at, result in enumerate(results):
        assert said["output"][at] == result.output.tolist()
        if result.sample < board.meant.fe.samples:  # a stream that has not heard a whole window
            assert said["result"][at] == [0]
            continue
        best, total = smoother.step(board.meant.shares(result.output))
        ended, begun = trigger.step(result.sample, best, total, smoother.count)
        wanted = [bool(ended) | bool(begun) << 1]
        for event in (ended, begun):
            wanted += [event.label, event.first, event.last, event.share] if event else []
        assert said["result"][at] == wanted
        assert said["means"][at] == [int(value) // smoother.count for value in smoother.sums]
        events += bool(begun)
    return events


def test_the_native_library_hears_what_the_host_hears(project: Path, tmp_path: Path) -> None:
    board = host_board.opened(ZOO / "tiny_transformer-micro-fsdd.zip")
    assert hears_as(board, project, tmp_path / "host") >= 2


def test_a_streaming_library_hears_what_the_host_hears(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ZOO / "panns-micro-esc10.zip"
    code, said, lines = earkit(
        capsys, "export", source, "--as", "android", "-o", tmp_path / "app", "--hop", "100ms"
    )
    assert code == 0, lines
    assert "not built here" in said
    assert "STREAMS = true" in (tmp_path / "app/app/src/main/java/earkit/listener/Model.kt").read_text()
    pipeline.compile(source, "virtual-m7", tmp_path / "build", hop="100ms")
    hears_as(host_board.opened(tmp_path / "build"), tmp_path / "app", tmp_path / "host")


@pytest.mark.parametrize(("target", "cpu"), MACHINES)
def test_the_c_compiles_for_phones(project: Path, tmp_path: Path, target: str, cpu: str) -> None:
    units = sorted((project / CPP).glob("*.c"))
    assert {path.name for path in units} == set(
        re.findall(r"^ +(\w+\.c)", (project / CPP / "CMakeLists.txt").read_text(), re.MULTILINE)
    )
    for unit in units:
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, f"-mcpu={cpu}", *FLAGS, "-fPIC"]
        more = ["-I", str(HERE / "jni"), "-c", unit.name, "-o", str(tmp_path / "unit.o")]
        done = subprocess.run(
            [*command, *more], cwd=project / CPP, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_files_are_whole(project: Path) -> None:
    record = json.loads((project / "earkit.json").read_text())
    assert record["built"] is False
    for path, digest in record["sha256"].items():
        assert hashlib.sha256((project / path).read_bytes()).hexdigest() == digest
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_kotlin.language()))
    kinds = set()
    for path in sorted(p for p in project.rglob("*") if p.is_file() and p.suffix != ".tflite"):
        kinds.add(path.suffix)
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"@[A-Z][A-Z_]+@", text), path
        if path.suffix == ".xml":
            ElementTree.fromstring(text)
        if path.suffix in (".kt", ".kts"):
            assert not parser.parse(text.encode()).root_node.has_error, path
    assert kinds == {".xml", ".kt", ".kts", ".c", ".h", ".txt", ".md", ".json", ".properties"}
    assert "has not been built by earkit" in (project / "README.md").read_text(encoding="utf-8")


def test_names_of_the_screen_are_there(project: Path) -> None:
    """Each R.id, R.string and R.layout that Kotlin names is in the resources."""
    code = "".join(path.read_text() for path in project.rglob("*.kt"))
    layout = (project / "app/src/main/res/layout/main.xml").read_text()
    strings = (project / "app/src/main/res/values/strings.xml").read_text()
    named = set(re.findall(r"(?<!android\.)R\.(\w+)\.(\w+)", code))
    assert len(named) > 12
    for kind, name in named:
        found = {
            "id": f'"@+id/{name}"' in layout,
            "string": f'name="{name}"' in strings,
            "layout": name == "main",
        }
        assert found[kind], (kind, name)
    for name in re.findall(r"@string/(\w+)", layout):
        assert f'name="{name}"' in strings
    assert "android.permission.RECORD_AUDIO" in (project / "app/src/main/AndroidManifest.xml").read_text()


def test_each_native_function_of_kotlin_is_in_c(project: Path) -> None:
    kotlin = (project / "app/src/main/java/earkit/listener/Ear.kt").read_text()
    native = (project / CPP / "jni.c").read_text()
    assert set(re.findall(r"external fun (\w+)", kotlin)) == set(
        re.findall(r"^EAR\(\w+, (\w+)\)", native, re.M)
    )


def test_harsh_names_are_escaped(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = bundles.load(tiny_bundle)
    labels = (HARSH, *bundle.labels[1:])
    files = {name: bundle.read(name) for name in bundle.files}
    source = tmp_path / "it's a & b"
    bundles.save(bundle.model_copy(update={"labels": labels}), files, source)
    out = tmp_path / "out"
    pipeline.export(source, "android", out)
    for path in out.rglob("*.xml"):
        ElementTree.fromstring(path.read_text(encoding="utf-8"))
    kotlin = (out / "app/src/main/java/earkit/listener/Model.kt").read_bytes()
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_kotlin.language()))
    assert not parser.parse(kotlin).root_node.has_error
    assert rb'"it' + rb"'s \"<b>\" & \$x \\" + b'"' in kotlin


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "taken"], "exists and is not an export"),
        (["-o", "x", "--board", "virtual-m4"], "leave --board out"),
        (["-o", "taken/mine.txt"], "is a file, a folder is needed"),
    ],
)
def test_bad_requests_are_one_line(
    arguments: list[str],
    words: str,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    code, _, lines = earkit(capsys, "export", tiny_bundle, "--as", "android", *arguments)
    assert code == 1
    assert len(lines) == 1
    assert words in lines[0]


def test_a_bare_model_needs_its_bundle(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, lines = earkit(capsys, "export", tiny_model, "--as", "android", "-o", tmp_path / "out")
    assert code == 1
    assert "give a bundle" in lines[0]
