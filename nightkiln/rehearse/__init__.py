"""Plays a batch's night beforehand: the real scheduler and dispatch in a simulated market.

``script`` is what is played, ``measured`` what runs have shown of its workflow, ``playing`` one
night of it, ``weightless`` what has no weight there, ``uses`` where its money went, ``nights`` many
of them in several processes, ``summary`` and ``chart`` what to tell of them, ``quoting`` the short
form of it all.
"""

from __future__ import annotations

from nightkiln.rehearse.measured import ClassMeasured, Measured, measured_in
from nightkiln.rehearse.nights import Rehearsed, Stage, rehearsed
from nightkiln.rehearse.playing import Played, play
from nightkiln.rehearse.quoting import Quote, quoted
from nightkiln.rehearse.script import Script, lump_for, with_jobs
from nightkiln.rehearse.summary import Summary, percentile, summary_of

__all__ = [
    "ClassMeasured",
    "Measured",
    "Played",
    "Quote",
    "Rehearsed",
    "Script",
    "Stage",
    "Summary",
    "lump_for",
    "measured_in",
    "percentile",
    "play",
    "quoted",
    "rehearsed",
    "summary_of",
    "with_jobs",
]
