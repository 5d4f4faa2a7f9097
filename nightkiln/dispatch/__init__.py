"""The imperative shell: carries out the scheduler's commands and reports back what happened.

``loop`` turns commands into tasks and their ends into events; ``lease_life`` holds one lease from
renting to release, ``giving_back`` sends leases back, ``booking`` keeps the user's book of them and
``left_over`` sees to those of earlier runs; ``attempting`` is one job on one lease, once;
``landing`` brings its outputs into the store; ``shell`` is what they share; ``tally`` counts for
people; ``controller`` measures what this computer is up to, ``sleeping`` how long it slept. Nothing
is decided here.
"""

from __future__ import annotations

from nightkiln.dispatch.booking import Booking
from nightkiln.dispatch.controller import Controller
from nightkiln.dispatch.landing import Landing, VerifyRules
from nightkiln.dispatch.loop import Dispatcher
from nightkiln.dispatch.shell import JobSource, Sink, Work, tell
from nightkiln.dispatch.tally import Tally

__all__ = [
    "Booking",
    "Controller",
    "Dispatcher",
    "JobSource",
    "Landing",
    "Sink",
    "Tally",
    "VerifyRules",
    "Work",
    "tell",
]
