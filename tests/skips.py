"""What a run of the tests leaves out, in one line."""

from collections import Counter
from collections.abc import Iterable
from typing import Any


def not_tested(reports: Iterable[Any]) -> str:
    """Each reason with the number of its tests, the most frequent first; empty without any.

    Args:
        reports: pytest's, of skipped tests.
    """
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)
    told = [f"{number} × {reason}" for reason, number in reasons.most_common()]
    return f"not tested here: {'; '.join(told)}" if told else ""
