"""Modal: serverless containers that render what nobody else would do in time.

- terms: every setting; errors: the SDK's exceptions as ours, in one table
- contract: requests to the deployed app and its replies (workers/README.md)
- service: the SDK, as coroutines with deadlines; nothing else imports it; facts: what it says
- prices, offers: what a container costs, and what slots there are
- calls, desk: calls from hand-over to their end, written down; meter: what they cost
- open_leases, recalling: what dead processes have left, to be cancelled or fetched
- billing: the service's own report, by lease; worker, provider: all of it behind the verbs
- deploying: how the app gets there
"""

from nightkiln.providers.modal.errors import Kind, ModalFailed
from nightkiln.providers.modal.provider import ModalProvider
from nightkiln.providers.modal.terms import Limits, ModalTerms

__all__ = ["Kind", "Limits", "ModalFailed", "ModalProvider", "ModalTerms"]
