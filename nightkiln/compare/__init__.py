"""Every provider's GPUs side by side for one catalog: dollars, finish, and what both rest on.

``stalls`` asks who offers what (or reads a market file and dated price lists), ``comparison`` puts
all of it through `nightkiln.core.comparing`, ``chart`` draws what came out.
"""

from __future__ import annotations

from nightkiln.compare.comparison import Comparison, Plan, compared
from nightkiln.compare.stalls import Stall, Visit, visited

__all__ = ["Comparison", "Plan", "Stall", "Visit", "compared", "visited"]
