"""Randomness by name: every draw depends on its own name and on nothing else.

A generator that is drawn from in turn tells another story as soon as anybody asks in another
order. Here the hash of (seed, who, what for) is the draw, so a policy that rents other machines
meets the same machines.
"""

from __future__ import annotations

import hashlib
import math
import struct
from statistics import NormalDist

_EIGHT = struct.Struct(">8Q")
_STEP = 2.0**-52  # the upper 52 bits, so that a half more is still exact
_inverse_normal = NormalDist().inv_cdf


def throw(name: str) -> tuple[float, ...]:
    """Eight independent uniform numbers inside (0, 1), ends excluded, that belong to ``name``."""
    numbers = _EIGHT.unpack(hashlib.sha512(name.encode()).digest())
    return tuple([((number >> 12) + 0.5) * _STEP for number in numbers])


def lognormal(unit: float, sigma: float) -> float:
    """A number whose logarithm is normal with this ``sigma``; its median is 1."""
    return math.exp(sigma * _inverse_normal(unit))


def exponential(unit: float) -> float:
    """A waiting time with mean 1."""
    return -math.log(unit)


def between(unit: float, low: float, high: float) -> float:
    """Uniform from ``low`` to ``high``."""
    return low + unit * (high - low)
