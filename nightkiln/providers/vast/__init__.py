"""Vast.ai: rents strangers' machines, reaches them over SSH, and gives them back.

- terms: every setting; regions: which countries a region's name means
- service: the SDK, in threads, at the documented pace (rates), its errors as ours (errors)
- labels: which machine belongs to which lease
- offers: a search, and what it found
- rows: what the service says of a machine of ours; listing: one such list for all who wait
- judging: what that means for a lease
- creating, releasing: from an order to a machine, and back; charging: what was billed
- provider: all of it behind the five verbs
"""

from nightkiln.providers.vast.terms import Limits, VastTerms

__all__ = ["Limits", "VastTerms"]
