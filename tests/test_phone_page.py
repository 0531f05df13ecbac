"""The phone's page in headless Chromium with a fake microphone: events, tests, and all that can go wrong."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
from chromium import Browser, Page
from phone_host import Served, offered, serving
from phone_sound import RATE, host_hears, made_sound, microphone

from kit import runs, shelf
from kit.progress import silent
from kit.targets.phone import offer as offers
from kit.targets.phone.offer import Offer

MODEL = "panns-micro-esc10"
LINE = "document.querySelector('#line').textContent"
EVENTS = "[...document.querySelectorAll('#events b')].map((b) => b.textContent)"


@pytest.fixture(scope="module")
def offer() -> Offer:
    return offered(MODEL)


@pytest.fixture
def served(offer: Offer, tmp_path: Path) -> Iterator[Served]:
    with serving(offer, tmp_path / "run") as one:
        yield one


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    wav = microphone(made_sound(), folder / "sound.wav")
    with chromium.running(folder, (*chromium.FAKE, f"--use-file-for-fake-audio-capture={wav}")) as one:
        yield one


def joined(browser: Browser, served: Served, **choices: Any) -> Page:
    """Open the page as a new phone does, through the code of the moment."""
    page = browser.open(served.codes[-1], **choices)
    page.wait(f"{LINE} === 'Ready. Tap Listen.'")
    return page


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    one = joined(browser, served)
    yield one
    assert one.said() == []
    one.close()


def test_the_events_of_a_played_sound(page: Page) -> None:
    page.tap("#listen")
    page.wait(f"{LINE} === 'Listening. No sound leaves this phone.'")
    wanted = host_hears(made_sound(), MODEL)
    assert wanted == ["clock tick", "sea waves"]
    assert hears(page, wanted)
    assert page.evaluate("[...document.querySelectorAll('#bars [role=meter]')].length") == 10
    shades = (
        "new Set(document.querySelector('#sound').getContext('2d').getImageData(0, 0, 200, 40).data).size"
    )
    assert page.evaluate(shades) > 50
    page.wait("document.querySelector('#speed').textContent.startsWith('A run of the model: median')")
    assert "resampled here to 16,000 Hz by a windowed sinc" in page.text("#resampled")
    page.tap("#listen")
    page.wait(f"{LINE} === 'Stopped.'")
    assert page.evaluate("document.querySelector('#now').className") == ""


def hears(page: Page, wanted: list[str]) -> bool:
    """Wait for each of the events, as the sound goes round and round; tell whether there are no others."""
    for label in wanted:
        page.wait(f"{EVENTS}.includes({label!r})")
    return set(page.evaluate(EVENTS)) == set(wanted)


def test_the_test_gives_the_host_its_bytes(page: Page, served: Served, offer: Offer) -> None:
    page.tap("#test")
    page.wait(f"{LINE}.startsWith('Tested with {len(offer.trial.host)} inputs.')")
    assert "Differ from the computer0 of 10" in page.text("#tested")
    profile = runs.load(Path(served.lines[-1].split("earkit report ")[1])).profile
    assert profile is not None
    assert (profile["mismatches"], profile["origin"]) == (0, "measured")
    assert "HeadlessChrome" in profile["device"]
    times = profile["latency"]
    assert 0 < times["median"] <= times["p95"] <= times["p99"] <= times["max"]
    assert times["resolution_ms"] < 0.05  # the page is isolated: the browser gives it its finer clock


def test_a_stream_without_clips(browser: Browser, tmp_path: Path) -> None:
    """The bundle's own inputs are no whole number of hops: silence comes before each."""
    offer = offered(MODEL, "100ms")
    assert offer.bundle.frontend.frames % offer.about["rows"]
    with serving(offer, tmp_path / "run") as served:
        page = joined(browser, served)
        page.tap("#test")
        page.wait(f"{LINE}.startsWith('Tested with')")
        assert "Differ from the computer0 of 10" in page.text("#tested")
        page.close()


def test_clips_and_a_stream(browser: Browser, tmp_path: Path) -> None:
    """Sound that the phone hears itself, hop by hop: still the host's bytes, and an accuracy."""
    from quantize import bundle as bundles

    found = bundles.load(shelf.find(MODEL))
    made = sounds(found.labels, tmp_path / "data")
    offer = offers.prepare(shelf.find(MODEL), hop="100ms", data=str(made), progress=silent)
    with serving(offer, tmp_path / "run") as served:
        page = joined(browser, served)
        page.tap("#test")
        page.wait(f"{LINE}.startsWith('Tested with')")
        assert "Rightly named" in page.text("#tested")
        profile = runs.load(tmp_path / "run").profile
        assert profile is not None
        assert profile["mismatches"] == 0
        assert profile["accuracy"]["device"] == profile["accuracy"]["host_int8"]
        assert profile["latency"]["of"] == "a hop of the stream"
        assert profile["latency"]["count"] == 10 * profile["inputs"]
        assert page.said() == []
        page.close()


def sounds(labels: tuple[str, ...], folder: Path) -> Path:
    """Write a folder of short noises, a few of each class."""
    rng = np.random.default_rng(4)
    for i, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for k in range(4):
            low = 0.01 + 0.09 * i
            noise = scipy.signal.lfilter(
                *scipy.signal.butter(2, (low, low + 0.08), "band"), rng.normal(0, 1, RATE)
            )
            soundfile.write(folder / label / f"{k}.wav", np.clip(noise, -1, 1), RATE)
    return folder


def test_a_hidden_page_stops_hearing_and_goes_on(page: Page) -> None:
    page.tap("#listen")
    page.wait(f"{LINE}.startsWith('Listening.')")
    hide(page, True)
    assert page.text("#line") == "The page is hidden: it hears nothing."
    time.sleep(1.2)
    hide(page, False)
    page.wait(f"{LINE}.startsWith('Listening again. The page was hidden for')")
    page.wait(f"{EVENTS}.length >= 1")


def hide(page: Page, hidden: bool) -> None:
    """Let the page believe that it is hidden, or seen again: headless windows always are seen."""
    page.evaluate(
        f"Object.defineProperty(document, 'hidden', {{value: {str(hidden).lower()}, configurable: true}}), "
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def test_a_hidden_page_ends_a_test(page: Page, served: Served) -> None:
    before = len(served.lines)
    page.evaluate("document.querySelector('#test').click(), 0")
    hide(page, True)
    hide(page, False)
    assert page.text("#line").startswith("The test was stopped: the page was hidden")
    assert page.evaluate("document.querySelector('#progress').hidden")
    page.wait("document.querySelector('#test').textContent === 'Test'")
    time.sleep(0.5)
    assert len(served.lines) == before


def test_hidden_while_the_phone_asks_for_the_microphone(page: Page) -> None:
    page.evaluate(
        "{ const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices), asked = "
        "new Promise((allow) => (window.allow = allow)); "
        "navigator.mediaDevices.getUserMedia = async (wanted) => (await asked, get(wanted)); }"
    )
    page.tap("#listen")
    assert page.text("#line").startswith("Starting the microphone. Allow it")
    hide(page, True)
    page.evaluate("allow()")
    page.wait(f"{LINE} === 'The page is hidden: it hears nothing.'")
    hide(page, False)
    page.wait(f"{LINE}.startsWith('Listening again.')")


def test_a_test_that_was_left_ends_no_listening(
    page: Page, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results were on their way when Listen was tapped: the answer must not stop what is heard."""
    arrived, go_on, save = threading.Event(), threading.Event(), runs.save

    def slow(*given: Any) -> None:
        arrived.set()
        assert go_on.wait(60)
        save(*given)

    monkeypatch.setattr(runs, "save", slow)
    page.tap("#test")
    assert arrived.wait(60)
    page.tap("#listen")
    page.wait(f"{LINE}.startsWith('Listening.')")
    before = len(served.lines)
    go_on.set()
    page.wait(f"{EVENTS}.length >= 1")
    assert len(served.lines) == before + 1  # the computer keeps it all the same
    assert (page.text("#listen"), page.text("#test")) == ("Stop", "Test")
    assert page.text("#line").startswith("Listening.")


def test_a_phone_that_slept_says_so(page: Page) -> None:
    page.tap("#listen")
    page.wait(f"{LINE}.startsWith('Listening.')")
    page.evaluate("(() => { const now = Date.now; Date.now = () => now() + 60000; })()")
    page.wait(f"{LINE}.startsWith('Listening again. The phone slept for 6')")


@pytest.mark.parametrize(
    ("button", "line"), [("#test", "in the middle of a test"), ("#listen", "while it listened")]
)
def test_a_page_loaded_again_says_what_it_cut_off(page: Page, button: str, line: str) -> None:
    page.evaluate("window.Worker.prototype.postMessage = () => {}")  # the test never ends
    page.tap(button)
    page.wait("sessionStorage.getItem('doing')")
    page.go(page.evaluate("location.href"))
    page.wait(f"{LINE}.includes({line!r})")
    assert "Tap" in page.text("#line")


KEEP = """{
    const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => (window.given = await get(wanted));
}"""


def test_a_microphone_that_is_taken_away(page: Page) -> None:
    page.evaluate(KEEP)
    page.tap("#listen")
    page.wait(f"{LINE}.startsWith('Listening.')")
    page.evaluate("given.getTracks()[0].dispatchEvent(new Event('ended'))")
    assert page.text("#line") == "The microphone went away. Tap Listen to start again."
    assert page.text("#listen") == "Listen"


def test_two_phones_at_once(browser: Browser, served: Served, page: Page, offer: Offer) -> None:
    second = joined(browser, served)
    for one in (page, second):
        one.tap("#test")
    for one in (page, second):
        one.wait(f"{LINE}.startsWith('Tested with')")
    folders = {page.text("#line").split()[-1], second.text("#line").split()[-1]}
    assert len(folders) == 2
    second.close()


def test_without_the_code(browser: Browser, served: Served) -> None:
    served.phone()
    page = browser.open(served.codes[0])
    page.wait(f"{LINE}.includes('used already')")
    assert page.text("h1") == "earkit"
    page.close()
    page = browser.open(served.place.origin)
    page.wait(f"{LINE} === 'This phone has not joined. Scan the code in the terminal.'")
    page.close()


def test_offline_once_loaded_and_a_computer_that_is_gone(
    browser: Browser, offer: Offer, tmp_path: Path
) -> None:
    with serving(offer, tmp_path / "run") as served:
        page = joined(browser, served)
        page.wait("document.querySelector('#offline').textContent.startsWith('Kept on this phone')")
    page.go(served.place.origin)
    page.wait(f"{LINE} === 'Ready. Tap Listen.'")
    page.tap("#test")
    page.wait(f"{LINE} === 'The computer does not answer: is earkit still running there?'")
    page.tap("#listen")
    page.wait(f"{EVENTS}.length >= 1")
    page.close()


def test_behind_a_certificate_that_nobody_knows(browser: Browser, offer: Offer, tmp_path: Path) -> None:
    """As in a network: who has clicked the warning away gets everything but the page that is kept."""
    with serving(offer, tmp_path / "run", tls=True) as served:
        page = browser.open(served.codes[-1])
        page.wait("!!document.querySelector('#proceed-link')")
        page.evaluate("document.querySelector('#details-button').click()")
        page.evaluate("document.querySelector('#proceed-link').click()")
        page.wait(f"{LINE} === 'Ready. Tap Listen.'")
        page.wait("document.querySelector('#offline').textContent.startsWith('Browsers keep no page whose')")
        page.tap("#test")
        page.wait(f"{LINE}.startsWith('Tested with')")
    page.tap("#listen")  # for the first time, and the computer is gone
    page.wait(f"{EVENTS}.length >= 1")
    page.close()


def test_no_microphone_and_a_refused_one(served: Served, tmp_path: Path) -> None:
    with chromium.running(tmp_path, ()) as browser:
        page = joined(browser, served)
        page.tap("#listen")
        page.wait(f"{LINE} === 'There is no microphone. Connect one, then tap Listen.'")
        page.close()
    with chromium.running(tmp_path, ("--use-fake-device-for-media-stream",)) as browser:
        page = joined(browser, served)
        browser.call(
            "Browser.setPermission",
            permission={"name": "microphone"},
            setting="denied",
            browserContextId=page.context,
        )
        page.tap("#listen")
        page.wait(f"{LINE}.startsWith('The microphone was refused. Allow it')")
        assert page.evaluate("document.querySelector('#line').className") == "bad"
        page.close()


OLD = (
    "window.Worker = class { postMessage() { setTimeout(() => this.onerror()); } }"  # knows no modules there
)


def test_an_old_browser(browser: Browser, served: Served) -> None:
    page = browser.open("about:blank")
    page.call("Page.addScriptToEvaluateOnNewDocument", source=OLD)
    page.go(served.codes[-1])
    page.wait(f"{LINE}.startsWith('This browser')")
    page.close()


def test_values_instead_of_probabilities(browser: Browser, tmp_path: Path) -> None:
    """A regression: bars to both sides of 0, within what int8 says, and neither events nor percents."""
    offer = offered("ser_w2v2-micro-synthetic-affect")
    with serving(offer, tmp_path / "run") as served:
        page = joined(browser, served)
        page.tap("#listen")
        told = "[...document.querySelectorAll('#bars .number')].map((one) => one.textContent)"
        page.wait(f"{told}.some((text) => text.startsWith('-'))")
        into = offer.bundle.outputs[0]
        for meter in page.evaluate(
            "[...document.querySelectorAll('[role=meter]')].map((one) => "
            "['valuemin', 'valuemax', 'valuenow'].map((name) => Number(one.getAttribute(`aria-${name}`))))"
        ):
            assert meter[:2] == pytest.approx([(end - into.zero_point) * into.scale for end in (-128, 127)])
            assert meter[0] <= meter[2] <= meter[1]
        assert not any("%" in text for text in page.evaluate(told))
        inside = (
            "[...document.querySelectorAll('.meter')].every((one) => { const [track, bar] = "
            "[one, one.firstChild].map((part) => part.getBoundingClientRect()); "
            "return bar.left >= track.left - 1 && bar.right <= track.right + 1; })"
        )
        assert page.evaluate(inside)
        assert page.evaluate(
            "document.querySelector('#heard').hidden && document.querySelector('#now').hidden"
        )
        page.tap("#test")
        page.wait(f"{LINE}.startsWith('Tested with')")
        profile = runs.load(tmp_path / "run").profile
        assert profile is not None
        assert profile["mismatches"] == 0
        assert page.said() == []
        page.close()


def test_a_real_recording(shared: Path, served: Served, tmp_path: Path) -> None:
    """A dog and a rooster of ESC-10's first fold, on which the bundle was not trained."""
    table = shared / "data" / "esc10" / "meta" / "esc50.csv"
    if not table.is_file():
        pytest.skip(f"no {table}")
    with table.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] == "1"]
    parts = []
    for label in ("dog", "rooster"):
        name = next(row["filename"] for row in rows if row["category"] == label)
        clip, rate = soundfile.read(table.parent.parent / "audio" / name)
        parts += [soxr.resample(clip, rate, RATE), np.zeros(RATE)]
    wanted = host_hears(np.concatenate(parts), MODEL)
    wav = microphone(np.concatenate(parts), tmp_path / "sound.wav")
    with chromium.running(tmp_path, (*chromium.FAKE, f"--use-file-for-fake-audio-capture={wav}")) as browser:
        page = joined(browser, served)
        page.tap("#listen")
        assert hears(page, wanted)
        assert {"dog", "rooster"} <= set(wanted)
        page.close()
