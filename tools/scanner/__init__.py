"""The simulated scanner: plays recorded or simulated series exactly as scanners export them."""

from tools.scanner.export import ExportFolder, Manner
from tools.scanner.feedback import FeedbackEar
from tools.scanner.opening import open_outlet, open_series
from tools.scanner.play import Outlet, Played, play
from tools.scanner.series import RecordedSeries, Series
from tools.scanner.simulated import SimulatedSeries
from tools.scanner.stream import StreamOut

__all__ = [
    "ExportFolder",
    "FeedbackEar",
    "Manner",
    "Outlet",
    "Played",
    "RecordedSeries",
    "Series",
    "SimulatedSeries",
    "StreamOut",
    "open_outlet",
    "open_series",
    "play",
]
