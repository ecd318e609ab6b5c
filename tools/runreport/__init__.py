"""A run's report from its record: one HTML file with figures, faults and what was done."""

from tools.runreport.page import write_report

__all__ = ["write_report"]
