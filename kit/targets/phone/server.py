"""The page's server: HTTPS for the phones of one network, bounded, and gone at Ctrl-C."""

from __future__ import annotations

import json
import math
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, ClassVar

from boards.errors import UserError
from kit.targets.phone.address import Address
from kit.targets.phone.door import Door, RefusedError

if TYPE_CHECKING:
    from kit.targets.phone.offer import Offer

PAGE = Path(__file__).with_name("page")
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",  # both: the page gets the browser's finer clock
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), screen-wake-lock=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
COOKIE = "earkit"
KEY = re.compile(rf"(?:^|[; ]){COOKIE}=([\w-]+)", re.ASCII)  # http.cookies takes minutes for hostile ones
SECONDS = 30  # that a phone may be silent within a request, and between two
CONNECTIONS = 32  # at a time
HANDSHAKE = 0x16  # the first byte of TLS


@dataclass(frozen=True)
class Site:
    """What the server serves, and whom it tells."""

    address: Address
    tls: ssl.SSLContext | None
    door: Door
    files: Mapping[str, bytes]  # for those who have joined
    batch: Callable[[int], bytes | None]  # of test inputs
    results: Callable[[bytes, str], dict[str, Any]]  # takes a report and the browser's name
    most_bytes: int  # of a report


def files(offer: Offer) -> dict[str, bytes]:
    """Return what a phone gets besides the page's own files."""
    manifest = {
        "name": f"earkit: {offer.name}",
        "short_name": "earkit",
        "start_url": "./",
        "display": "standalone",
        "background_color": "#15151b",
        "theme_color": "#15151b",
        "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml", "purpose": "any maskable"}],
    }
    return {
        "model.wasm": offer.module,
        "model.json": json.dumps(offer.about).encode(),
        "app.webmanifest": json.dumps(manifest).encode(),
    }


class Server(ThreadingHTTPServer):
    """Threads as the standard library has them, no more than CONNECTIONS, each with its own TLS."""

    daemon_threads = True
    request_queue_size = CONNECTIONS

    def __init__(self, site: Site) -> None:
        """Take the port; UserError when another program has it."""
        self.site, self._room = site, threading.BoundedSemaphore(CONNECTIONS)
        self._open: dict[Any, float] = {}  # connections, and when their request must have come
        self.address_family = site.address.family
        try:
            super().__init__((site.address.host, site.address.port), Handler)
        except OSError as error:
            raise UserError(
                f"{site.address.authority} cannot be served ({error.strerror}): give another --port or --host"
            ) from None

    def server_bind(self) -> None:
        """Take the port without asking a name server what this machine is called."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread, or hang up where there are enough."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands within the connection's own thread."""
        request.settimeout(SECONDS)
        if self.site.tls is None:
            return self._serve(request, client_address)
        if request.recv(1, socket.MSG_PEEK) != bytes([HANDSHAKE]):
            line = f"This is {self.site.address.origin}: scan the code in the terminal.\n".encode()
            head = f"HTTP/1.1 400 HTTPS\r\nContent-Type: text/plain\r\nContent-Length: {len(line)}\r\n"
            request.sendall(head.encode() + b"Connection: close\r\n\r\n" + line)
            return None
        wrapped = self.site.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with wrapped as secured:
            return self._serve(secured, client_address)

    def _serve(self, line: Any, client_address: Any) -> None:
        self.expect(line)
        try:
            if self.site.tls is not None:
                line.do_handshake()
            super().finish_request(line, client_address)
        finally:
            self._open.pop(line, None)

    def expect(self, line: Any) -> None:
        """Hang up on a connection whose next request has not come in time."""
        self._open[line] = time.monotonic() + 2 * SECONDS  # a pause, then the request

    def came(self, line: Any) -> None:
        """Leave it as much time for the answer as it goes on taking it."""
        self._open[line] = math.inf

    def service_actions(self) -> None:
        """Hang up on who sends a request drop by drop."""
        now = time.monotonic()
        self._hang_up(line for line, end in self._open.copy().items() if end < now)

    def server_close(self) -> None:
        """Give the port back, and hang up on everybody."""
        super().server_close()
        self._hang_up(self._open.copy())

    def _hang_up(self, lines: Iterable[Any]) -> None:
        for line in lines:
            with suppress(OSError):
                socket.socket.shutdown(line, socket.SHUT_RDWR)  # TLS's own confuses the thread that reads

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Forget connections that broke; anything else is a bug, and told."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One phone's requests."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "earkit", ""
    timeout = SECONDS
    server: Server
    public: ClassVar = {path.name: path for path in PAGE.iterdir() if path.suffix in KINDS}

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal shows the code."""

    def end_headers(self) -> None:
        """Add what every answer says."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def handle_one_request(self) -> None:
        """Give the next request its time to come."""
        self.server.expect(self.connection)
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Take no more requests behind one with content: what is not read of it would be the next."""
        parsed = super().parse_request()
        if parsed and {"content-length", "transfer-encoding"} & set(map(str.lower, self.headers)):
            self.close_connection = True
        return parsed

    def do_HEAD(self) -> None:
        """Answer as to GET, without joining."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with a file, or let a phone in."""
        self.server.came(self.connection)
        with self._refusing():
            self._check_host()
            name = self.path.partition("?")[0].removeprefix("/")
            if name.startswith("join/"):
                self._join(name.removeprefix("join/"))
            elif name in self.public and name != "index.html":
                self._answer(self.public[name].read_bytes(), Path(name).suffix)
            else:
                self._private(name)

    def do_POST(self) -> None:
        """Take a report."""
        with self._refusing():
            self._check_host()
            agent, site = self._session(), self.server.site
            if self.path != "/results" or self.headers.get("Origin") != self._origin():
                raise RefusedError(403, "Only this page's own results are taken.")
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or len(length) > 12 or int(length) > site.most_bytes:
                raise RefusedError(413, f"Results have at most {site.most_bytes:,} bytes.")
            text = self.rfile.read(int(length))
            self.server.came(self.connection)
            try:
                answer = site.results(text, agent)
            except UserError as error:
                raise RefusedError(400, str(error)) from None
            self._answer(json.dumps(answer).encode(), ".json")

    def _private(self, name: str) -> None:
        """Answer with what is for those who have joined."""
        self._session()
        files, kind = self.server.site.files, Path(name).suffix
        if name == "":
            return self._answer(self.public["index.html"].read_bytes(), ".html")
        if name in files:
            return self._answer(files[name], kind)
        number = name.removeprefix("test/")
        batch = self.server.site.batch(int(number)) if number.isdecimal() and len(number) < 9 else None
        if not name.startswith("test/") or batch is None:
            raise RefusedError(404, "There is no such page. Scan the code in the terminal.")
        return self._answer(batch, "")

    def _join(self, token: str) -> None:
        """Let a phone in, and send it to the page; one that has joined already goes there too."""
        if "prefetch" in self.headers.get("Sec-Purpose", "") or self.command == "HEAD":
            raise RefusedError(503, "This code opens when you do.")
        name = "".join(filter(str.isprintable, self.headers.get("User-Agent", "")))
        agent = name[:400] or "an unnamed browser"
        with suppress(RefusedError):
            self._session()
            return self._redirect(None)
        return self._redirect(self.server.site.door.join(token, agent))

    def _redirect(self, key: str | None) -> None:
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        if key is not None:
            secure = "" if self.server.site.tls is None else "; Secure"
            self.send_header("Set-Cookie", f"{COOKIE}={key}; Path=/; HttpOnly; SameSite=Lax{secure}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _session(self) -> str:
        """Return what the phone's browser calls itself; RefusedError when it has not joined."""
        found = KEY.search(self.headers.get("Cookie", ""))
        return self.server.site.door.session(found and found[1]).agent

    def _check_host(self) -> None:
        """Refuse requests that mean another machine: a name that somebody points here is one."""
        if self.headers.get("Host") not in self._hosts():
            raise RefusedError(421, f"This is {self.server.site.address.origin}.")

    def _hosts(self) -> tuple[str, ...]:
        address = self.server.site.address
        return (address.authority, *([f"localhost:{address.port}"] if address.loopback else ()))

    def _origin(self) -> str:
        return f"{'http' if self.server.site.tls is None else 'https'}://{self.headers.get('Host')}"

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn a refusal into a page of one line; into that line where no person looks."""
        try:
            yield
        except RefusedError as refused:
            if "text/html" not in self.headers.get("Accept", ""):
                self._answer(str(refused).encode(), ".txt", HTTPStatus(refused.status))
                return
            text = self.public["refused.html"].read_text(encoding="utf-8")
            page = text.replace("{line}", escape(str(refused))).encode()
            self._answer(page, ".html", HTTPStatus(refused.status))

    def _answer(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Type", KINDS.get(kind, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
