"""A simulated participant who learns from the feedback shown, with everything about them known."""

from tools.participant.grid import Grid
from tools.participant.nuisance import Nuisance
from tools.participant.person import PROTOCOL_NAME, Participant
from tools.participant.signals import Edge, FcScript, Learner, Scripted
from tools.participant.spheres import default_spheres, network_correlation
from tools.participant.truth import Truth

__all__ = [
    "PROTOCOL_NAME",
    "Edge",
    "FcScript",
    "Grid",
    "Learner",
    "Nuisance",
    "Participant",
    "Scripted",
    "Truth",
    "default_spheres",
    "network_correlation",
]
