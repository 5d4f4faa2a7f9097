"""Which batch is meant, by its name or the beginning of it."""

from __future__ import annotations

from nightkiln.core.errors import BadInput, Problem
from nightkiln.store.claims import claimed_batches
from nightkiln.store.store import Store
from nightkiln.why import line

NAMED_MAX = 8  # candidates named in an error


def named_batch(store: Store, asked: str) -> str:
    """The batch of the store whose name is, or alone begins with, ``asked``.

    Raises:
        BadInput: there is none, or several.
    """
    known = claimed_batches(store.blobs)
    found = [asked] if asked in known else [each for each in known if each.startswith(asked)]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} batches begin like this" if found else "the store has no such batch"
    named = ", ".join((found or known)[:NAMED_MAX])
    raise BadInput([Problem(line(asked), what, f"one of: {named}" if named else "none has run")])
