"""One self-contained HTML page about finished runs."""

from spikebridge.results.report.page import write_report as write_report
