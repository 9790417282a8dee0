"""One self-contained HTML page about finished runs."""

from spikebridge.report.page import write_report as write_report
