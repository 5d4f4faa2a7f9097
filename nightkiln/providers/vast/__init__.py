"""Vast.ai: rents strangers' machines, reaches them over SSH, and gives them back.

- terms: every setting; regions: which countries a region's name means
- service: the SDK, in threads, at the documented pace (rates), its errors as ours (errors)
- labels: which machine belongs to which lease
- offers: a search, and what it found
- rows: what the service says of a machine of ours; listing: one such list for all who wait
- held, watch: our leases, held against every listing; judging: what a row means for a lease
- orders, creating: from an offer to a machine; ending, releasing: and back; keyring: who comes in
- charging: what was billed; account: what can be spent
- provider: all of it behind the five verbs
"""

from nightkiln.providers.vast.account import Account
from nightkiln.providers.vast.errors import Kind, VastFailed
from nightkiln.providers.vast.provider import VastProvider, account
from nightkiln.providers.vast.terms import Limits, VastTerms

__all__ = ["Account", "Kind", "Limits", "VastFailed", "VastProvider", "VastTerms", "account"]
