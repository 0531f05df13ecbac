"""Progress: plain lines where stderr is no terminal, bars where it is one."""

from __future__ import annotations

import io
import sys

import pytest

from kit import progress


class Terminal(io.StringIO):
    """Takes what a terminal would show."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


@pytest.mark.parametrize(
    ("total", "line"), [(91_188_065, "send: 1,234,567/91,188,065\n"), (0, "send: 1,234,567\n")]
)
def test_lines(
    total: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT", 0.0)
    with progress.shown() as show:
        show("send", 1_234_567, total)
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("total", "shown"), [(9, "5/9"), (0, "5/?")])
def test_bars(total: int, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress.shown() as show:
        show("seconds scored", 5, total)
    assert "seconds scored" in screen.getvalue()
    assert shown in screen.getvalue()
