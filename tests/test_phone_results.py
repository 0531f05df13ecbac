"""What a phone reports: checked, bounded, judged by the host, and drawn by the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import earkit
from hypothesis import given, settings
from hypothesis import strategies as st
from phone_host import Phone, Served, offered, serving

from boards.errors import UserError
from kit import runs
from kit.targets.phone import offer, results

MODEL = "tiny_transformer-micro-esc10"


@pytest.fixture(scope="module")
def made() -> offer.Offer:
    return offered(MODEL)


@pytest.fixture
def served(made: offer.Offer, tmp_path: Path) -> Iterator[Served]:
    with serving(made, tmp_path / "run") as one:
        yield one


def report(made: offer.Offer, **changes: Any) -> dict[str, Any]:
    """Return what the page sends when all is well."""
    good = {
        "build": made.about["build"],
        "outputs": made.trial.host.ravel().tolist(),
        "run_ms": [0.5, 0.25, 1.0, 0.75],
        "frontend_ms": [],
        "warm_up": 30,
        "resolution_ms": 0.005,
        "isolated": True,
        "seconds": 1.5,
        "cores": 8,
        "memory": 1 << 20,
    }
    return good | changes


def post(phone: Phone, content: object, **headers: str) -> tuple[int, str]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    origin = f"http://{phone.place.authority}"
    answer, text = phone.ask("POST", "/results", body, **{"Origin": origin, **headers})
    return answer.status, text.decode()


def test_a_report_becomes_a_run(
    served: Served, made: offer.Offer, capsys: pytest.CaptureFixture[str]
) -> None:
    phone = served.phone()
    outputs = made.trial.host.copy()
    outputs[3, 1] ^= 1
    status, text = post(phone, report(made, outputs=outputs.ravel().tolist()))
    told = json.loads(text)
    assert (status, told["mismatches"], told["samples"], told["run"]) == (200, 1, len(outputs), "run")
    assert told["latency"]["median"] == 0.625
    folder = Path(served.lines[-1].split("earkit report ")[1])
    profile = runs.load(folder).profile
    assert profile is not None
    assert (profile["origin"], profile["device"], profile["milliseconds"]) == ("measured", "a test", 0.625)
    assert profile["instructions"] is profile["cycles"] is None
    assert "no clips" in profile["notes"][0]
    assert post(phone, report(made))[0] == 200  # a second test has a folder of its own
    assert runs.load(folder.with_name("run-2")).profile["mismatches"] == 0  # type: ignore[index]
    code, _, err = earkit(capsys, "report", folder, folder.with_name("run-2"), "-o", folder.parent / "r.html")
    assert (code, err) == (0, [])
    page = (folder.parent / "r.html").read_text()
    assert "a test" in page
    assert "0.625" in page


BAD = [
    (b"", "JSON"),
    (b"\xff\xfe", "JSON"),
    (b"[" * 5000, "JSON"),
    (b"[]", "JSON"),
    ({"build": "other"}, "another build"),
    ({"outputs": [0]}, "1 outputs"),
    ({"outputs": [300]}, "outputs"),
    ({"run_ms": []}, "run_ms"),
    ({"run_ms": [-1.0]}, "run_ms"),
    ({"run_ms": [0.1] * 20_001}, "run_ms"),
    ({"resolution_ms": 0}, "resolution_ms"),
    ({"more": 1}, "more"),
    ({"<b>\n" + "x" * 5000: 1}, "results: <b>x{37}: Extra"),
    ({"run_ms": [float("nan")]}, "run_ms.0: Input should be a finite"),
    ({"run_ms": [float("inf")]}, "run_ms.0: Input should be a finite"),
    ({"run_ms": [3.7e6]}, "run_ms"),
    ({"run_ms": ["1"]}, "run_ms"),
    ({"run_ms": [True]}, "run_ms"),
    ({"run_ms": None}, "run_ms"),
    ({"frontend_ms": {"a": 1}}, "frontend_ms"),
    ({"outputs": ["1"]}, "outputs"),
    ({"outputs": [1.0]}, "outputs"),
    ({"isolated": "yes"}, "isolated"),
    ({"cores": True}, "cores"),
    ({"memory": -1}, "memory"),
    ({"warm_up": 10**400}, "warm_up"),
]


@pytest.mark.parametrize(("change", "said"), BAD, ids=lambda value: str(value)[:20])
def test_a_wrong_report_is_refused_in_one_line(made: offer.Offer, change: Any, said: str) -> None:
    content = change if isinstance(change, bytes) else json.dumps(report(made, **change)).encode()
    with pytest.raises(UserError, match=said) as error:
        results.read(made, content)
    assert "\n" not in str(error.value)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_the_reader(made: offer.Offer, text: bytes) -> None:
    with pytest.raises(UserError):
        results.read(made, text)


def test_no_name_of_a_browser_is_markup(
    served: Served, made: offer.Offer, capsys: pytest.CaptureFixture[str]
) -> None:
    phone = served.phone(joined=False)
    phone.ask("GET", served.code, User_Agent="<script>alert(1)</script>\x1b[2J\x9b\x00" + "x" * 1000)
    assert post(phone, report(made))[0] == 200
    folder = Path(served.lines[-1].split("earkit report ")[1])
    device = runs.load(folder).profile["device"]  # type: ignore[index]
    assert device.startswith("<script>alert(1)</script>[2Jxxx")
    assert len(device) == 400
    code, _, _ = earkit(capsys, "report", folder, "-o", folder.parent / "r.html")
    assert code == 0
    page = (folder.parent / "r.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_times_below_the_clocks_step_are_no_milliseconds(made: offer.Offer) -> None:
    coarse = report(made, run_ms=[0, 0, 0, -0.0, 100.0], resolution_ms=100.0)
    profile = results.judge(made, results.read(made, json.dumps(coarse).encode()), "a test").profile
    assert profile is not None
    assert profile["milliseconds"] is None
    assert any("a step of this browser's clock" in note for note in profile["notes"])
    assert "-0" not in json.dumps(profile["latency"])


@pytest.mark.parametrize("where", [".", "..", "run"])
def test_every_test_has_a_folder_of_its_own(
    made: offer.Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    with serving(made, Path(where)) as served:
        phone = served.phone()
        assert [post(phone, report(made))[0] for _ in range(3)] == [200] * 3
        folders = [Path(line.split("earkit report ")[1]).resolve() for line in served.lines[-3:]]
    first = (inside / where).resolve()
    assert folders == [first, *(first.with_name(f"{first.name}-{number}") for number in (2, 3))]
    assert all((folder / "profile.json").is_file() for folder in folders)


def test_a_full_disk_is_said_here_and_there(
    served: Served, made: offer.Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "save", full)
    status, text = post(served.phone(), report(made))
    assert (status, "cannot be kept (No space left on device)" in text) == (400, True)
    assert served.lines[-1] == text


def test_reports_are_bounded_and_come_from_the_page(served: Served, made: offer.Offer) -> None:
    phone = served.phone()
    assert post(phone, report(made), Origin="https://evil.example")[0] == 403
    assert post(served.phone(joined=False), report(made))[0] == 403
    assert post(phone, b"x", Content_Length=str(results.most_bytes(made) + 1))[0] == 413
    assert post(phone, b"x", Content_Length="-1")[0] == 413
    assert post(phone, b"x", Content_Length="1" * 100)[0] == 413
    assert post(phone, b"x")[0] == 400
    largest = report(made, run_ms=[1234.5678] * 20_000, frontend_ms=[1234.5678] * 20_000)
    assert post(phone, largest)[0] == 200
