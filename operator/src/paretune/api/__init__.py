"""The custom resources as code; the CRDs are generated from here."""

from .meta import API_VERSION, GROUP, VERSION, Metadata
from .metrics import Goal
from .pool import DevicePool
from .study import Objective, OptimizationStudy, Runtime
from .trial import FINAL_STATES, Ask, OptimizationTrial, State

__all__ = [
    "API_VERSION",
    "FINAL_STATES",
    "GROUP",
    "VERSION",
    "Ask",
    "DevicePool",
    "Goal",
    "Metadata",
    "Objective",
    "OptimizationStudy",
    "OptimizationTrial",
    "Runtime",
    "State",
]
