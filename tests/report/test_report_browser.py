"""The report in a real browser: Chromium without a window."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(
    _BROWSER is None, reason="needs Chromium on the path (apt-get install chromium)"
)

# The window is never narrower than 500 px, a frame inside it is.
_PROBE = """<!DOCTYPE html><iframe src="report.html" style="width: 360px; height: 800px"></iframe>
<script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const box = e => e.getBoundingClientRect(), all = s => [...page.querySelectorAll(s)];
  const ink = e => getComputedStyle(e).fill;
  document.body.dataset.seen = JSON.stringify({
    width: root.clientWidth,
    scroll: root.scrollWidth,
    sections: all("h2").map(e => e.textContent),
    background: getComputedStyle(page.body).backgroundColor,
    svg: all("svg").map(e => [box(e).width, box(e).height]),
    font: Math.min(...all("svg text").map(e => parseFloat(getComputedStyle(e).fontSize)
      * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b))),
    ink: [...new Set(all("svg text").map(ink))],
    images: all("img").map(e => e.naturalWidth),
    focusable: all("a[href], summary, [tabindex='0']").length,
  });
};
</script>"""


def _look(page: Path, tmp_path: Path, *options: str) -> tuple[dict[str, Any], list[str]]:
    """What the probe saw, and the console's lines."""
    probe = page.with_name("probe.html")
    probe.write_text(_PROBE, encoding="utf-8")
    done = subprocess.run(
        [str(_BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--allow-file-access-from-files", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", *options, "--dump-dom", probe.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    seen = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert seen, done.stdout[:500] + done.stderr[-2000:]
    return json.loads(unescape(seen.group(1))), re.findall(r"CONSOLE.*", done.stderr)


@pytest.mark.parametrize(
    ("options", "background", "ink"),
    [
        ((), "rgb(255, 255, 255)", "rgb(27, 31, 36)"),
        (("--blink-settings=preferredColorScheme=0",), "rgb(20, 23, 26)", "rgb(230, 233, 236)"),
    ],
    ids=["light", "dark"],
)
def test_the_page_on_a_phone(
    page: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    background: str,
    ink: str,
) -> None:
    seen, console = _look(page, tmp_path, *options)
    assert console == []
    assert seen["scroll"] <= seen["width"] <= 360
    assert len(seen["sections"]) == 7
    assert seen["background"] == background
    assert seen["ink"] == [ink]
    assert len(seen["svg"]) == 8
    assert all(300 < width <= 360 and height > 80 for width, height in seen["svg"])
    assert seen["font"] >= 8
    assert len(seen["images"]) == 5 * 4
    assert min(seen["images"]) >= 12
    assert seen["focusable"] >= 13
