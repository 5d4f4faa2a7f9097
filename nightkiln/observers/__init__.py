"""People and programs that watch a run: a terminal, plain lines, JSON lines."""

from __future__ import annotations

from nightkiln.observers.lines import JsonLines, PlainLines
from nightkiln.observers.several import Several
from nightkiln.observers.terminal import Terminal

__all__ = ["JsonLines", "PlainLines", "Several", "Terminal"]
