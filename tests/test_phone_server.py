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
    assert address.find("localhost", 80).origin == "http://localhost:80"
    assert address.find("::1", 443).origin == "http://[::1]:443"
    lan = Address("192.168.1.5", 8443, socket.AF_INET, False)
    assert lan.origin == "https://192.168.1.5:8443"
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
