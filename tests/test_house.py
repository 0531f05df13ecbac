"""House rules as tests: file and function sizes, import direction, first lines, and the README's tree."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("boards", "models", "quantize", "kit")  # imports point to the left only
MAX_FILE, MAX_FUNCTION = 400, 60
PYTHON = sorted(
    path for package in (*ORDER, "firmware", "tests", "benchmarks") for path in (ROOT / package).rglob("*.py")
)
C = sorted(path for kind in ("*.c", "*.h") for path in (ROOT / "firmware").rglob(kind))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [*PYTHON, *C], ids=relative)
def test_file_fits_the_budget_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines, "empty file"
    assert len(lines) <= MAX_FILE
    assert lines[0].startswith(('"""', "/* ", "// ")), lines[0]


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_functions_fit_the_budget(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION, node.name


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_down(package: str) -> None:
    above = set(ORDER[ORDER.index(package) + 1 :])
    for path in (ROOT / package).rglob("*.py"):
        assert not imported_packages(path) & above, relative(path)


def test_compiler_needs_boards_only() -> None:
    for path in (ROOT / "firmware").rglob("*.py"):
        assert not imported_packages(path) & {"models", "quantize", "kit"}, relative(path)


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return listing.stdout.splitlines()


def test_readme_tree_names_every_file() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme.split("## The tree")[1].split("\n## ")[0]
    named = set(re.findall(r"[\w.+-]+", tree))
    together = (".tflite", ".npz", ".zip", ".ATTRIBUTION.md")  # one line for all
    listed = (name for name in tracked() if not name.endswith(together))
    missing = [name for name in listed if not set(Path(name).parts[-1:]) <= named]
    assert not missing


def test_no_pickle_and_no_eval() -> None:
    for path in (ROOT / package for package in (*ORDER, "firmware")):
        for file in path.rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            calls = {
                node.func.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert "pickle" not in imported_packages(file), relative(file)
            assert not calls & {"eval", "exec"}, relative(file)
