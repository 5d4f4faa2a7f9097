"""What a machine is called at the service: which fleet and which lease it belongs to.

    nk/<fleet>/<lease id>

The service promises more, but 60 characters are known to work everywhere, so a long batch name is
cut to its start and a digest: ``a-very-long-name-of~1a2b3c4d-7-lease-012``.
"""

from __future__ import annotations

import hashlib
import re

from nightkiln.core.model import LeaseId

PREFIX = "nk/"
LABEL_CHARS_MAX = 60
FLEET = re.compile(r"[a-z0-9]{1,12}")
DIGEST_DIGITS = 8
_LEASE = re.compile(r"(?P<batch>.+)(?P<rest>-\d{1,9}-lease-\d{1,9})", re.ASCII)
_LABEL = re.compile(r"nk/(?P<fleet>[a-z0-9]{1,12})/(?P<lease>[A-Za-z0-9._~-]{1,200})")


def label_of(fleet: str, lease_id: LeaseId) -> str:
    """The label of a lease; the same for the id that is read back from it."""
    assert FLEET.fullmatch(fleet), "checked where settings are read"
    whole = f"{PREFIX}{fleet}/{lease_id}"
    if len(whole) <= LABEL_CHARS_MAX:
        return whole
    batch, rest = _parts(lease_id)
    digest = hashlib.sha256(batch.encode()).hexdigest()[:DIGEST_DIGITS]
    room = LABEL_CHARS_MAX - len(f"{PREFIX}{fleet}/~{digest}{rest}")
    return f"{PREFIX}{fleet}/{batch[:room]}~{digest}{rest}"


def read_label(text: object) -> tuple[str, LeaseId] | None:
    """Fleet and lease id, as the label has them; None: it is no label of ours."""
    if not isinstance(text, str) or len(text) > LABEL_CHARS_MAX:
        return None
    found = _LABEL.fullmatch(text)
    return (found["fleet"], LeaseId(found["lease"])) if found is not None else None


def batch_of(lease_id: LeaseId) -> str:
    """The batch that a lease is rented for."""
    return _parts(lease_id)[0]


def _parts(lease_id: LeaseId) -> tuple[str, str]:
    """The batch's name, and the rest of the id; an id of another make has no rest."""
    found = _LEASE.fullmatch(lease_id)
    return (found["batch"], found["rest"]) if found is not None else (lease_id, "")
