"""What a decoder reached, as one page: figures, controls, edges, and how it was done."""

from offline.report.brain import roi_coordinates
from offline.report.page import write_report

__all__ = ["roi_coordinates", "write_report"]
