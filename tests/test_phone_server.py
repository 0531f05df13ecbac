"""The phone's server: who gets in, what it answers and refuses, and that it ends; a client of the library."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import earkit
from cryptography import x509
from phone_host import Phone, Served, free_port, offered, serving

from boards.errors import UserError
from kit.targets.phone import address, door, offer, serve, server
from kit.targets.phone.address import Address
from kit.targets.phone.door import Door, RefusedError

MODEL = "tiny_transformer-micro-esc10"
PAGE_REQUEST = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def made() -> offer.Offer:
    return offered(MODEL)


@pytest.fixture
def served(made: offer.Offer, tmp_path: Path) -> Iterator[Served]:
    with serving(made, tmp_path / "run") as one:
        yield one


def test_a_code_opens_once(served: Served) -> None:
    first = served.code
    phone = served.phone()
    assert phone.status("GET", "/") == 200
    assert phone.status("GET", first) == 303  # its own code again: it is in already
    answer, page = Phone(served.place, False).ask("GET", first, **PAGE_REQUEST)
    assert (answer.status, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert b"used already" in page
    answer, text = Phone(served.place, False).ask("GET", "/join/wrong")
    assert (answer.status, text) == (
        403,
        b"This is not the code of the moment. Scan the one in the terminal.",
    )
    assert len(served.codes) == 2  # a new code for the next phone, and none for those refused


def test_looking_ahead_uses_no_code_up(served: Served) -> None:
    phone = Phone(served.place, False)
    assert phone.status("HEAD", served.code) == 503
    assert phone.status("GET", served.code, Sec_Purpose="prefetch;prerender") == 503
    assert phone.status("GET", served.code) == 303


def test_each_phone_has_a_session_until_there_are_enough(served: Served) -> None:
    phones = [served.phone() for _ in range(door.MOST)]
    assert len({phone.cookie for phone in phones}) == door.MOST
    assert {phone.status("GET", "/model.json") for phone in phones} == {200}
    answer, text = Phone(served.place, False).ask("GET", served.code)
    assert answer.status == 503
    assert b"4 phones have joined, no more fit" in text


def test_an_idle_phone_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Door()
    keys = [one.join(one.token, str(i)) for i in range(door.MOST)]
    one.session(keys[0])  # the second is now the one that was silent longest
    monkeypatch.setattr(door, "IDLE_SECONDS", 0)
    one.join(one.token, "new")
    with pytest.raises(RefusedError, match="not joined"):
        one.session(keys[1])
    assert one.session(keys[0]).agent == "0"


PRIVATE = ["/", "/index.html", "/model.wasm", "/model.json", "/test/0", "/app.webmanifest", "/nothing"]
HOSTILE = [
    *(
        "/../offer.py",
        "/..%2foffer.py",
        "/%2e%2e/offer.py",
        "//etc/passwd",
        "/page/../../server.py",
        "/.git/config",
    ),
    *(
        "/test/-1",
        "/test/99999",
        "/test/1e3",
        "/test/" + "9" * 40,
        "/test/",
        "/join",
        "/style.css/",
        "/style.css%00",
    ),
]


def test_strangers_see_the_look_alone(served: Served) -> None:
    stranger = served.phone(joined=False)
    for path in PRIVATE:
        assert stranger.status("GET", path) == 403, path
    assert stranger.status("GET", "/style.css") == 200
    stranger.cookie = "earkit=guessed"
    assert stranger.status("GET", "/") == 403
    stranger.cookie = 'earkit="; bad=\x7f'
    assert stranger.status("GET", "/") == 403


def test_no_path_leads_elsewhere(served: Served) -> None:
    phone = served.phone()
    for path in HOSTILE:
        assert phone.status("GET", path) in (403, 404), path
    assert phone.status("GET", "http://elsewhere/") == 421
    assert phone.status("DELETE", "/") == 501


def test_every_answer_is_closed_to_other_sites(served: Served) -> None:
    phone = served.phone()
    for path in ("/", "/model.wasm", "/nothing", served.code):
        headers = phone.ask("GET", path)[0].headers
        for name, value in server.HEADERS.items():
            assert headers[name] == value, (path, name)
    assert "unsafe-inline" not in server.POLICY
    assert "default-src 'none'" in server.POLICY
    assert "Python" not in phone.ask("GET", "/")[0].headers["Server"]
    cookie = served.phone(joined=False).ask("GET", served.code)[0].headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))


def test_another_name_for_this_machine_is_refused(served: Served) -> None:
    phone = served.phone()
    assert phone.status("GET", "/", Host="evil.example") == 421
    assert phone.status("GET", "/", Host=f"localhost:{served.place.port}") == 200


def test_slow_and_many_connections_do_not_stop_it(
    made: offer.Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SECONDS", 2)
    with serving(made, tmp_path / "run", tls=True) as served:
        place = (served.place.host, served.place.port)
        idle = [socket.create_connection(place, 20) for _ in range(server.CONNECTIONS)]
        time.sleep(3)  # nobody shook hands: all are gone
        assert served.phone().status("GET", "/") == 200
        for one in idle:
            assert one.recv(1) == b""
            one.close()


def spoken(served: Served, text: str) -> bytes:
    """Return all that comes back for raw bytes, until the server hangs up or is silent."""
    with socket.create_connection((served.place.host, served.place.port), 20) as line:
        line.settimeout(2)
        line.sendall(text.encode("latin-1"))
        heard = b""
        with suppress(TimeoutError):
            while part := line.recv(65536):
                heard += part
    return heard


@pytest.mark.parametrize(
    "head",
    [
        "POST /results HTTP/1.1\r\nOrigin: http://evil.example\r\nContent-Length: {bytes}\r\n",
        "POST /nothing HTTP/1.1\r\nContent-Length: {bytes}\r\n",
        "POST /results HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
        "GET / HTTP/1.1\r\nContent-Length: {bytes}\r\n",
        "DELETE / HTTP/1.1\r\nContent-Length: {bytes}\r\n",
    ],
)
def test_what_one_request_brings_is_never_the_next(served: Served, head: str) -> None:
    phone, host = served.phone(), f"Host: {served.place.authority}\r\n"
    inner = f"GET /style.css HTTP/1.1\r\n{host}\r\n"
    heard = spoken(served, f"{head.format(bytes=len(inner))}Cookie: {phone.cookie}\r\n{host}\r\n{inner}")
    assert heard.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in heard
    assert spoken(served, 2 * inner).count(b"HTTP/1.1 200") == 2  # without content they go on


def test_no_cookie_costs_much(served: Served) -> None:
    """The standard library's reader of cookies takes minutes of the processor for the first two."""
    stranger, begun = served.phone(joined=False), time.process_time()
    for value in (
        'earkit="' + "\\" * 60_000 + '"',
        'earkit="' + '\\"' * 30_000,
        "a=b;" * 15_000,
        "earkit=" * 9_000,
    ):
        stranger.cookie = value
        assert stranger.status("GET", "/") == 403
    assert time.process_time() - begun < 5
    phone = served.phone()
    phone.cookie = f"other=1; {phone.cookie}; more=2"
    assert phone.status("GET", "/") == 200


def test_odd_requests_are_answered_or_hung_up_on(served: Served) -> None:
    host, cookie = f"Host: {served.place.authority}\r\n", f"Cookie: {served.phone().cookie}\r\n"
    for text, status in (
        (f"GET /model.wasm HTTP/1.1\r\nRange: bytes=5-2\r\n{host}{cookie}", 200),
        (f"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{host}{cookie}", 200),
        (f"GET /style.css HTTP/1.1\r\nHost: evil.example\r\n{host}", 421),
        (f"GET / HTTP/1.1\r\nCookie: earkit=\xff\x80\r\n{host}", 403),
        (f"GET /join/\xff\x80 HTTP/1.1\r\n{host}", 403),
        (f"GET /{'a' * 70_000} HTTP/1.1\r\n{host}", 414),
        ("GET / HTTP/1.1\r\n" + "A: b\r\n" * 200, 431),
        ("GET / HTTP/1.1\r\nA: " + "b" * 70_000 + "\r\n", 431),
        ("GET / HTTP/9.9\r\n", 505),
        ("\x16\x03\x01 \x00 \x00\r\n", 400),
    ):
        heard = spoken(served, f"{text}\r\n").split(b"\r\n")[0]
        assert (b"%d" % status in heard) or status == 400, (text[:60], heard)
    assert served.phone().status("GET", "/") == 200


def test_who_sends_drop_by_drop_is_hung_up_on(
    made: offer.Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SECONDS", 1)
    for tls, first in ((False, b"GET / HT"), (True, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")):
        with serving(made, tmp_path / "run", tls=tls) as served:
            with socket.create_connection((served.place.host, served.place.port), 20) as line:
                line.settimeout(0.25)
                line.sendall(first)
                end = time.monotonic() + 30
                gone = False
                while not gone:
                    assert time.monotonic() < end
                    try:
                        line.sendall(b"a")  # never silent for as long as a second
                        gone = line.recv(1000) == b""
                    except TimeoutError:
                        pass
                    except OSError:
                        gone = True
            assert served.phone().status("GET", "/") == 200


def test_tls_and_who_speaks_without(made: offer.Offer, tmp_path: Path) -> None:
    with serving(made, tmp_path / "run", tls=True) as served:
        assert served.codes[0].startswith("https://127.0.0.1:")
        phone = served.phone(joined=False)
        assert "Secure" in phone.ask("GET", served.code)[0].headers["Set-Cookie"]
        assert phone.status("GET", "/") == 200
        plain = Phone(served.place, False)
        answer, text = plain.ask("GET", "/")
        assert answer.status == 400
        assert text.startswith(b"This is https://127.0.0.1:")
        shown = served.lines[0].split("SHA-256 is ")[1]
        pem = ssl.get_server_certificate((served.place.host, served.place.port), timeout=20)
        seen = x509.load_pem_x509_certificate(pem.encode())
        from cryptography.hazmat.primitives.hashes import SHA256

        assert seen.fingerprint(SHA256()).hex(":").upper() == shown
        names = seen.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_addresses() -> None:
    own = address.find(None, 8443)
    assert own.origin.startswith("http")
    assert address.find("localhost", 8080).origin == "http://localhost:8080"
    assert address.find("::1", 443).origin == "http://[::1]:443"
    lan = Address("192.168.1.5", 8443, socket.AF_INET, False)
    assert lan.origin == "https://192.168.1.5:8443"
    usual = Address("Desk.local", 443, socket.AF_INET, False)  # browsers name neither case nor the usual port
    assert (usual.authority, usual.origin) == ("desk.local", "https://desk.local")
    assert address.find("localhost", 80).authority == "localhost"
    for bad, said in (
        ("0.0.0.0", "need one address"),
        ("no.such.invalid", "no such address"),
        ("", "no such"),
    ):
        if bad:
            with pytest.raises(UserError, match=said):
                address.find(bad, 1)


def test_the_code_in_the_terminal_says_the_url() -> None:
    import segno

    url = "https://192.168.100.200:8443/join/" + "A" * 22
    drawn = serve.picture(url).splitlines()
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in drawn) <= 80
    assert segno.make(url, error="l", micro=False).version <= 5


def test_from_the_command_line_to_ctrl_c(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "kit", "phone", MODEL, "--host", "localhost", "--port", str(port)]
    command += ["--samples", "1", "--json", "-o", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if "/join/" in line:
            break
    assert f"http://localhost:{port}/join/" in seen
    with socket.create_connection(("localhost", port), 20):  # a phone that keeps its connection
        taken = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out) == {"url": f"http://localhost:{port}", "joined": 0, "runs": []}
    assert taken.returncode == 1
    assert "give another --port" in taken.stderr.splitlines()[-1]


def test_what_is_no_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own.tflite").write_bytes(b"")
    for argument, said in ((tmp_path / "own.tflite", "give a bundle"), (tmp_path / "none", "no such bundle")):
        code, out, err = earkit(capsys, "phone", argument, "--host", "localhost", "--port", "8443")
        assert (code, out) == (1, "")
        assert said in err[-1]
