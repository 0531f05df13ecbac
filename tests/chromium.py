"""Headless Chromium for tests, driven by the DevTools protocol over its pipe: no library, no port."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--mute-audio",
)
FAKE = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
SECONDS = 60  # that anything may take on a machine with other work
HIGH = 100  # file numbers that nobody else uses


class Browser:
    """A running browser."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self.process, self._to, self._back = process, to, back
        self._buffer, self._count = b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; AssertionError when it fails."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self._read(deadline)
            assert answer is not None, f"{method}: no answer"
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _read(self, deadline: float) -> dict[str, Any] | None:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._back], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            part = os.read(self._back, 1 << 16)
            assert part, "the browser is gone"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, url: str, *, dark: bool = False, width: int = 390, height: int = 844) -> Page:
        """Open a page in a context of its own: cookies and all are new."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, context, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}
        page.call("Emulation.setDeviceMetricsOverride", **size)
        page.scheme("dark" if dark else "light")
        page.go(url)
        return page


class Page:
    """A tab."""

    def __init__(self, browser: Browser, context: str, target: str, session: str) -> None:
        self.browser, self.context, self.target, self.session = browser, context, target, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this tab."""
        return self.browser.call(method, self.session, **parameters)

    def go(self, url: str) -> None:
        """Open another address."""
        self.call("Page.navigate", url=url)

    def scheme(self, name: str) -> None:
        """Prefer light or dark."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def evaluate(self, expression: str) -> Any:
        """Return what a JavaScript expression, or its promise, is."""
        made = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in made, f"{expression}: {made['exceptionDetails']}"
        return made["result"].get("value")

    def wait(self, expression: str, seconds: float = SECONDS) -> Any:
        """Return an expression's value once it is true."""
        deadline = time.monotonic() + seconds
        while True:
            value = None
            with suppress(AssertionError):  # the page may be changing
                value = self.evaluate(expression)
            if value:
                return value
            if time.monotonic() > deadline:
                text = self.evaluate("document.body?.innerText")
                raise AssertionError(f"{expression} stayed {value!r}; the page: {text}; {self.said()}")
            time.sleep(0.1)

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))

    def tap(self, selector: str) -> None:
        """Tap an element, as a finger does."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def picture(self, path: Path) -> None:
        """Write a screenshot as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def said(self) -> list[str]:
        """Return errors and warnings of the console so far."""
        lines = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                lines.append(str(event["params"]["exceptionDetails"].get("exception", {}).get("description")))
            if event["method"] == "Log.entryAdded":
                lines.append(event["params"]["entry"]["text"])
        return lines

    def close(self) -> None:
        """Close the tab and forget its cookies."""
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)


@contextmanager
def running(folder: Path, flags: Sequence[str] = FAKE) -> Iterator[Browser]:
    """Start a browser with a profile in `folder`, or skip where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    (their_in, to), (back, their_out) = os.pipe(), os.pipe()
    inner, outer = fcntl.fcntl(their_in, fcntl.F_DUPFD, HIGH), fcntl.fcntl(their_out, fcntl.F_DUPFD, HIGH)

    places = ["bash", "-c", f'exec "$0" "$@" 3<&{inner} 4>&{outer}']
    command = [*places, program, *FLAGS, f"--user-data-dir={folder}", *flags]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            pass_fds=(inner, outer),
            start_new_session=True,
        )
    for number in (their_in, their_out, inner, outer):
        os.close(number)
    browser = Browser(process, to, back)
    try:
        yield browser
    finally:
        with suppress(AssertionError, OSError):
            browser.call("Browser.close")
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
        os.close(to)
        os.close(back)
