"""Packages of npm that tests run: fetched once, as published, and kept in the user's cache."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import platformdirs

from boards import atomic

QUIET = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def modules(wanted: str, *needs: str) -> Path:
    """Return the `node_modules` that holds `wanted` ("name@version") and `needs`, and nothing else.

    Raises:
        LookupError: npm is not there or cannot fetch it, and why.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise LookupError("needs node and npm")
    home = Path(platformdirs.user_cache_dir("earkit")) / "tests" / wanted
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing_folder(home) as made:
            if needs:
                _npm(made, "install", *needs)
            _npm(made, "pack", wanted)
            _unpack(made, wanted.rpartition("@")[0])
    return home / "node_modules"


def _npm(folder: Path, verb: str, *packages: str) -> None:
    command = ["npm", verb, *QUIET, *packages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["failed"])[-1]
        raise LookupError(f"npm {verb}: {why}")


def _unpack(folder: Path, name: str) -> None:
    (packed,) = folder.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    packed.unlink()
    (folder / "node_modules").mkdir(exist_ok=True)
    (folder / "package").rename(folder / "node_modules" / name)
