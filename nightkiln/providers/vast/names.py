"""Which lease a label means, also where the label had to be cut."""

from __future__ import annotations

from pathlib import Path

from nightkiln.core.model import LeaseId
from nightkiln.lease_book import Entry, LeaseBook, Standing
from nightkiln.providers.vast.errors import NAME
from nightkiln.providers.vast.labels import label_of, read_label

CUT = "~"  # in a lease id that was read from a label, where its batch's name goes on


class Names:
    """Labels of one fleet and their leases. The lease book knows what a cut label began as."""

    def __init__(self, fleet: str, state: Path) -> None:
        self.fleet = fleet
        self._book = LeaseBook(state)
        self._whole: dict[str, LeaseId] = {}

    def label(self, lease_id: LeaseId) -> str:
        """The label of a lease, whose whole id is remembered."""
        label = label_of(self.fleet, lease_id)
        if CUT not in lease_id:
            self._whole[label] = lease_id
        return label

    def lease_id(self, label: str) -> LeaseId | None:
        """The lease of a label; as the label has it, where nobody knows the whole id. May block.

        None: it is not of this fleet, or not ours at all.
        """
        found = read_label(label)
        if found is None or found[0] != self.fleet:
            return None
        if CUT in found[1] and label not in self._whole:
            self._learn()
        return self._whole.get(label, found[1])

    def expected(self, *, now_s: float, silent_s: float) -> list[LeaseId]:
        """Leases that must be alive by the book: rented, not over, of a run that lives. Blocks.

        A machine whose run has been silent for ``silent_s`` has ended itself.
        """
        owners = {(*one.whose, one.epoch): one for one in self._book.owners() if not one.has_ended}

        def lives(entry: Entry) -> bool:
            owner = owners.get((*entry.whose, entry.epoch))
            is_rented = entry.provider == NAME and entry.standing is Standing.RENTED
            is_watched = owner is not None and now_s - owner.alive_s < silent_s
            return is_rented and is_watched and entry.expires_s > now_s

        return [entry.lease_id for entry in self._book.entries() if lives(entry)]

    def _learn(self) -> None:
        for entry in self._book.entries():
            if entry.provider == NAME:
                self.label(entry.lease_id)
