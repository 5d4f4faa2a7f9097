"""Whole nights on the simulated market and the fake Modal at once, through both real SDKs."""

from nightkiln.testing.hybrid.controller import HybridController
from nightkiln.testing.hybrid.scene import HybridScene

__all__ = ["HybridController", "HybridScene"]
