"""The report in a real browser: Chromium without a window."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from PIL import Image

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium on the path (apt-get install chromium)"
)

_SEEN = """(() => {
  const root = document.documentElement, box = e => e.getBoundingClientRect();
  const all = s => [...document.querySelectorAll(s)], ink = e => getComputedStyle(e).fill;
  return JSON.stringify({
    width: root.clientWidth,
    scroll: root.scrollWidth,
    sections: all("h2").map(e => e.id),
    background: getComputedStyle(document.body).backgroundColor,
    svg: all("svg").map(e => [box(e).width, box(e).height]),
    font: Math.min(...all("svg text").map(e => parseFloat(getComputedStyle(e).fontSize)
      * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b))),
    ink: [...new Set(all("svg text").map(ink))],
    images: all("img").map(e => e.naturalWidth),
    scrolling: all("*").filter(e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX))
      .map(e => e.tabIndex),
  });
})()"""
_FILM = 'document.querySelector(".film img").getAnimations()'
_SECTIONS = ["accuracy", "curves", "alignment", "classes", "examples", "spikes", "energy",
             "protocol", "made"]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def _seen(browser: Browser) -> dict[str, Any]:
    return json.loads(browser.run(_SEEN))


@pytest.mark.parametrize(
    ("scheme", "background", "ink"),
    [
        ("light", "rgb(255, 255, 255)", "rgb(27, 31, 36)"),
        ("dark", "rgb(20, 23, 26)", "rgb(230, 233, 236)"),
    ],
)
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_at_both_widths_and_colour_schemes(
    browser: Browser, page: Path, width: int, scheme: str, background: str, ink: str
) -> None:
    browser.open(page, width, 800, prefers_color_scheme=scheme)
    seen = _seen(browser)
    assert browser.console == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert seen["scroll"] <= seen["width"] == width
    assert seen["sections"] == _SECTIONS
    assert seen["background"] == background
    assert seen["ink"] == [ink]
    assert len(seen["svg"]) == 10
    assert all(300 < box[0] <= 500 and box[1] > 80 for box in seen["svg"])
    assert seen["font"] >= 8
    # One pair of confused classes, one film, four that are right: photo and frames of each.
    assert len(seen["images"]) == 2 * (2 + 1 + 4)
    assert min(seen["images"]) >= 12
    assert len(seen["scrolling"]) >= 7
    assert set(seen["scrolling"]) == {0}  # What scrolls can be reached by keyboard.


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_scrolls_shows_it_by_a_shadow(
    browser: Browser, page: Path, scheme: str
) -> None:
    shadows = {}
    for width in (390, 1280):
        browser.open(page, width, 800, prefers_color_scheme=scheme)
        for moved in (False, True):
            boxes = browser.run(f"""JSON.stringify(
              [...document.querySelectorAll(".scroll")].map(e => {{
                if ({json.dumps(moved)}) e.scrollLeft = e.scrollWidth;
                const box = e.getBoundingClientRect();
                return [e.scrollWidth > e.clientWidth, box.right + scrollX - 3, box.top + scrollY,
                        box.height];
              }}))""")
            for place, (scrolls, x, y, height) in enumerate(json.loads(boxes)):
                seen = _brightness(browser, x, y, 3, height)
                shadows[width, place, moved] = (scrolls, abs(seen - _PAPER[scheme]) > 25)
    assert any(scrolls for scrolls, _ in shadows.values())
    for (_, _, moved), (scrolls, shadow) in shadows.items():
        assert shadow is (scrolls and not moved)


_PAPER = {"light": 255, "dark": 22}


def _brightness(browser: Browser, x: float, y: float, width: float, height: float) -> float:
    """Median brightness of a part of the page, so that what stands in it hardly counts."""
    clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
    found = browser.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    return float(np.median(Image.open(io.BytesIO(base64.b64decode(found["data"]))).convert("L")))


def test_the_keyboard_reaches_everything_and_pauses_the_films(browser: Browser, page: Path) -> None:
    browser.open(page, 390, 800)
    wanted = browser.run("""document.querySelectorAll("a, summary, input, "
        + "[tabindex='0']:not(details:not([open]) *)").length""")
    reached, outlines = set(), set()
    for step in range(wanted):
        browser.press("Tab", 9)
        place, outline = browser.run("""[[...document.querySelectorAll("*")]
            .indexOf(document.activeElement), getComputedStyle(document.activeElement).outlineStyle
            + getComputedStyle(document.activeElement).outlineWidth]""")
        reached.add(place)
        outlines.add(outline)
        if browser.run("document.activeElement.id") == "pause":
            states = [browser.run(f"{_FILM}[0].playState")]
            browser.press(" ", 32, " ")
            states.append(browser.run(f"{_FILM}[0].playState"))
            browser.press(" ", 32, " ")
            states.append(browser.run(f"{_FILM}[0].playState"))
            assert states == ["running", "paused", "running"], step
    assert len(reached) == wanted > 15
    assert outlines == {"solid2px"}
    assert browser.console == []


def test_a_film_shows_its_frames_one_after_the_other(browser: Browser, page: Path) -> None:
    browser.open(page, 390, 800)
    moved = browser.run(f"""(() => {{
      const film = {_FILM}[0], image = document.querySelector(".film img");
      const box = image.parentElement.getBoundingClientRect();
      film.pause();
      return [0, 1, 2, 3].map(k => {{
        film.currentTime = (k + 0.5) * film.effect.getComputedTiming().duration / 3;
        return (box.left - image.getBoundingClientRect().left) / box.width;
      }});
    }})()""")
    assert moved == pytest.approx([0, 1, 2, 0], abs=0.01)


def test_who_wants_no_motion_sees_all_frames_still(browser: Browser, page: Path) -> None:
    browser.open(page, 390, 800, prefers_reduced_motion="reduce")
    assert browser.run(f"{_FILM}.length") == 0
    shares = browser.run("""(() => {
      const image = document.querySelector(".film img"), box = e => e.getBoundingClientRect();
      return [box(image).width / box(image.parentElement).width, box(image).height];
    })()""")
    assert shares[0] == pytest.approx(1)
    assert shares[1] > 20
    assert browser.run('getComputedStyle(document.querySelector("#pause")).display') == "none"
