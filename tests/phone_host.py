"""The phone's server in this process, and phones that are the library's own HTTP client."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from boards.errors import UserError
from kit import shelf
from kit.progress import silent
from kit.targets.phone import offer, serve, server
from kit.targets.phone.address import Address


def offered(model: str, hop: str | None = None) -> offer.Offer:
    """Return a model of the shelf with its own expected inputs, as on a machine that has no clips."""

    def missing(*_: object) -> None:
        raise UserError("no clips")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offer.measure, "clips", missing)
        return offer.prepare(shelf.find(model), hop=hop, progress=silent)


class Phone:
    """A client with a cookie."""

    def __init__(self, place: Address, tls: bool) -> None:
        self.place, self.tls, self.cookie = place, tls, ""

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[Any, bytes]:
        """Return an answer and its content."""
        line: http.client.HTTPConnection
        if self.tls:
            unchecked = ssl._create_unverified_context()
            line = http.client.HTTPSConnection(
                self.place.host, self.place.port, timeout=20, context=unchecked
            )
        else:
            line = http.client.HTTPConnection(self.place.host, self.place.port, timeout=20)
        sent = {
            "Cookie": self.cookie,
            "User-Agent": "a test",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        line.request(method, path, body, {name: value for name, value in sent.items() if value})
        answer = line.getresponse()
        content = answer.read()
        line.close()
        if found := re.match(r"earkit=[^;]+", answer.headers.get("Set-Cookie", "")):
            self.cookie = found[0]
        return answer, content

    def status(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        """Return the status alone."""
        return int(self.ask(method, path, body, **headers)[0].status)


class Served:
    """A server in a thread."""

    def __init__(self, made: offer.Offer, place: Address, out: Path) -> None:
        self.place, self.codes, self.lines, self.stop = place, [], [], threading.Event()
        self.codes: list[str]
        self.lines: list[str]

        def work() -> None:
            serve.serve(made, place, out, invite=self.codes.append, tell=self.lines.append, stop=self.stop)

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 60
        while not self.codes:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @property
    def code(self) -> str:
        """Return the path of the newest code."""
        return self.codes[-1].removeprefix(self.place.origin)

    def phone(self, joined: bool = True) -> Phone:
        """Return a phone."""
        phone = Phone(self.place, not self.place.loopback)
        if joined:
            assert phone.status("GET", self.code) == 303
        return phone


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    made: offer.Offer, out: Path, *, tls: bool = False, more: Mapping[str, bytes] | None = None
) -> Iterator[Served]:
    """Serve on this machine; `tls` as in a network, `more` files beside the model's."""
    place = Address("127.0.0.1", free_port(), socket.AF_INET, not tls)
    with pytest.MonkeyPatch.context() as patch:
        if more:
            usual = server.files(made)
            patch.setattr(server, "files", lambda _: {**usual, **more})
        served = Served(made, place, out)
    yield served
    served.stop.set()
    served.thread.join(20)
    assert not served.thread.is_alive()
