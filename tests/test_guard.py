"""The guard: a foreign package that hides one of ours is refused in one line, and costs nothing otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kit

ROOT = Path(kit.__file__).parent.parent


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", kit.OURS)
def test_foreign_package_in_the_current_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a foreign package was run')")
    done = start(tmp_path, "-m", "kit", "boards")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert repr(name) in line
    assert str(tmp_path / name) in line
    assert str(ROOT / name) in line
    assert "PYTHONPATH" in line


def test_foreign_module_on_pythonpath_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("")
    done = start(ROOT.parent, "-c", "import kit", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "models.py") in line


def test_foreign_package_that_was_imported_first_is_refused(tmp_path: Path) -> None:
    (tmp_path / "quantize.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import quantize; sys.path.pop(0); import kit"
    done = start(tmp_path.parent, "-c", code)
    assert done.returncode == 1
    assert "foreign 'quantize'" in done.stderr


def test_folders_without_python_are_no_packages(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.tflite").write_bytes(b"")
    assert start(tmp_path, "-m", "kit", "--version").returncode == 0


def test_a_link_to_our_folder_is_ours(tmp_path: Path) -> None:
    (tmp_path / "site").symlink_to(ROOT)
    assert start(tmp_path, "-c", "import kit", PYTHONPATH=str(tmp_path / "site")).returncode == 0
