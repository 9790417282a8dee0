"""What was not tested is said at the end, with the reason and how to get it."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from skips import not_tested

ROOT = Path(__file__).parents[1]


def test_reasons_are_counted_in_one_line():
    reasons = ["no C compiler", "needs Chromium", "needs Chromium"]
    reports = [SimpleNamespace(longrepr=("file.py", 3, f"Skipped: {why}")) for why in reasons]
    assert not_tested(reports) == "not tested here: 2 × needs Chromium; 1 × no C compiler"
    assert not_tested([]) == ""


def test_pages_are_not_left_out_silently_where_chromium_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=",
         "tests/results/report/test_report_browser.py"],
        cwd=ROOT, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("not tested here: ")]
    assert "needs Chromium on the path (apt-get install chromium)" in line
    assert "passed" not in done.stdout
