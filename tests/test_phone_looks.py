"""The phone's page for every eye and hand: contrast, names, sizes, narrow screens, large type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import chromium
import pytest
from chromium import Browser, Page
from phone_host import Served, offered, serving

from kit.targets.phone.offer import Offer

LINE = "document.querySelector('#line').textContent"
CONTRAST = """(() => {
  const parts = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parts(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !element.offsetParent || element.closest(".unseen")) continue;
    const two = [light(parts(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
    found.push([walk.currentNode.textContent.trim().slice(0, 30), ratio]);
  }
  return found;
})()"""
BOX = (
    "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('%s').getBoundingClientRect())"
)
CUT = """[...document.querySelectorAll('button, p, dt, dd, h1')]
  .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)"""
FILLED = """(() => {
  document.querySelector('#events').innerHTML = '<li><b>dog</b><small>1.0 s, 90 %</small></li>';
  document.querySelector('#tested').innerHTML = '<dt>Median</dt><dd>0.1 ms</dd>';
  document.querySelector('#tested').hidden = false;
  document.querySelector('#now').className = 'heard';
  document.querySelector('details').open = true;
})()"""


@pytest.fixture(scope="module")
def offer() -> Offer:
    return offered("tiny_transformer-micro-esc10")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium.running(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.fixture
def served(offer: Offer, tmp_path: Path) -> Iterator[Served]:
    with serving(offer, tmp_path / "run") as one:
        yield one


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    one = browser.open(served.codes[-1])
    one.wait(f"{LINE} === 'Ready. Tap Listen.'")
    one.evaluate(FILLED)
    yield one
    one.close()


def contrasts(page: Page) -> list[tuple[str, float]]:
    found = [(str(text), float(ratio)) for text, ratio in page.evaluate(CONTRAST)]
    assert len(found) > 20
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(page: Page, scheme: str) -> None:
    page.scheme(scheme)
    wrong = [(text, round(ratio, 2)) for text, ratio in contrasts(page) if ratio < 4.5]
    assert not wrong
    page.evaluate(
        "document.querySelector('#line').className = 'bad', document.querySelector('#listen').disabled = true"
    )
    wrong = [(text, round(ratio, 2)) for text, ratio in contrasts(page) if ratio < 4.5]
    assert not wrong
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark")


def test_names_are_no_markup(browser: Browser, offer: Offer, tmp_path: Path) -> None:
    nasty = [f"<img src=x onerror=document.title='{i}'></li><b>" for i in range(len(offer.about["labels"]))]
    about = {**offer.about, "name": "<script>alert(1)</script>", "labels": nasty}
    with serving(replace(offer, about=about), tmp_path / "run") as served:
        page = browser.open(served.codes[-1])
        page.wait(f"{LINE} === 'Ready. Tap Listen.'")
        assert page.text("#bars span") == nasty[0]
        assert page.text("#name") == "<script>alert(1)</script>"
        assert page.evaluate("document.querySelectorAll('img, b').length") == 0
        assert page.evaluate("document.title") == "earkit: <script>alert(1)</script>"
        page.close()


def test_what_a_screen_reader_is_told(page: Page) -> None:
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and "role" in node
    ]
    roles = dict.fromkeys(role for role, _ in named)
    assert {("button", "Listen"), ("button", "Test"), ("heading", "earkit")} <= set(named)
    assert ("status", "") in named or "status" in roles
    meters = [name for role, name in named if role == "meter"]
    assert len(meters) == 10
    assert "crying baby" in meters
    nameless = {
        role
        for role, name in named
        if role in ("button", "meter", "image", "link", "region", "progressbar") and not name
    }
    assert not nameless
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert page.evaluate("document.querySelector('#events').getAttribute('aria-live')") == "polite"
    assert page.evaluate("document.querySelector('#line').getAttribute('role')") == "status"
    order = [f"document.querySelector('{one}')" for one in ("#now", "#bars", "#events", "#test", "#listen")]
    for one, two in pairwise(order):
        assert page.evaluate(f"{one}.compareDocumentPosition({two})") & 4  # reading follows what is seen


def test_thumbs_reach_and_hit_the_buttons(page: Page) -> None:
    for button in ("#listen", "#test"):
        box = page.evaluate(BOX % button)
        assert min(box[2:]) >= 44
        assert box[1] > 844 * 2 / 3  # the lower third, without scrolling
        assert box[1] + box[3] <= 844
    size = {"width": 844, "height": 390, "deviceScaleFactor": 2, "mobile": True}  # turned
    page.call("Emulation.setDeviceMetricsOverride", **size)
    for button in ("#listen", "#test"):
        box = page.evaluate(BOX % button)
        assert min(box[2:]) >= 44
        assert 390 * 2 / 3 < box[1] <= 390 - box[3]
    page.call("Emulation.setDeviceMetricsOverride", **{**size, "width": 390, "height": 844})
    page.evaluate("document.querySelector('main').replaceChildren()")  # of few classes there is little to see
    assert page.evaluate(BOX % "#listen")[1] > 844 * 2 / 3
    page.evaluate("document.querySelector('#progress').hidden = false")  # seen without scrolling
    assert 844 / 2 < page.evaluate(BOX % "#progress")[1] < page.evaluate(BOX % "#line")[1]


def test_the_keyboard_alone(page: Page) -> None:
    seen = []
    for _ in range(3):
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 3
    assert seen == ["SUMMARY", "test", "listen"]


@pytest.mark.parametrize(("width", "height", "type_size"), [(320, 568, 16), (390, 844, 32), (844, 390, 16)])
def test_nothing_is_cut_off(page: Page, width: int, height: int, type_size: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    page.evaluate(f"document.documentElement.style.fontSize = '{type_size}px'")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT) == []


def test_a_refusal_is_readable_too(browser: Browser, served: Served) -> None:
    page = browser.open(served.place.origin, dark=True)
    page.wait(f"{LINE}.startsWith('This phone has not joined.')")
    page.wait("document.readyState === 'complete'")
    assert all(ratio >= 4.5 for _, ratio in page.evaluate(CONTRAST))
    page.close()
