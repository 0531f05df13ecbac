"""The versions of what decides a result: packages and this checkout."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("ai-edge-quantizer", "earkit", "keras", "numpy", "tensorflow")


def packages() -> dict[str, str]:
    """Return the versions of the packages that decide the result."""
    return {name: metadata.version(name) for name in PACKAGES}


def git_revision() -> str | None:
    """Return the commit of this checkout, None outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
