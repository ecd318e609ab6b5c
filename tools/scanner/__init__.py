"""The simulated scanner: plays recorded or simulated series exactly as scanners export them."""

from tools.scanner.export import ExportFolder, Manner
from tools.scanner.play import Outlet, Played, play
from tools.scanner.series import RecordedSeries, Series, SimulatedSeries
from tools.scanner.stream import StreamOut

__all__ = [
    "ExportFolder",
    "Manner",
    "Outlet",
    "Played",
    "RecordedSeries",
    "Series",
    "SimulatedSeries",
    "StreamOut",
    "play",
]
