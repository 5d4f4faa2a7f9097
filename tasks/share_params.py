"""What the flow run of one controller of several is told; nobody fills this in by hand."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from nightkiln.core.sharing import SHARES_MAX, Share
from nightkiln.store.shares import Ticket
from tasks.form import Form
from tasks.params import BatchParams


class ShareParams(Form):
    """One start of one share of a night."""

    model_config = ConfigDict(title="Share")

    batch: BatchParams = Field(
        title="Night",
        description="What the whole night was asked for. Its budget does not count here: the store "
        "says what this share may spend.",
    )
    night: str = Field(title="Name of the night", description="The batch that is shared out.")
    number: int = Field(ge=1, le=SHARES_MAX, title="Share", description="Which one, from 1.")
    of: int = Field(ge=1, le=SHARES_MAX, title="Of", description="How many shares there are.")
    round: int = Field(ge=1, title="Round", description="Which budget of the night this is.")
    start: int = Field(ge=1, title="Start", description="How often the share was started in it.")
    mark: str = Field(title="Mark", description="Which night this is, of all of that name.")
    worker_urls: list[str] = Field(
        [], title="Workers", description="ComfyUI servers of one's own that are for this share."
    )

    @classmethod
    def for_ticket(
        cls, ticket: Ticket, params: BatchParams, worker_urls: tuple[str, ...]
    ) -> ShareParams:
        """What whoever works with ``ticket`` is told."""
        share = ticket.share
        return cls(
            batch=params,
            night=share.night,
            number=share.number,
            of=share.of,
            round=ticket.round,
            start=ticket.start,
            mark=ticket.mark,
            worker_urls=list(worker_urls),
        )

    @property
    def ticket(self) -> Ticket:
        """The start of the share that this is about."""
        share = Share(self.night, self.number, self.of)
        return Ticket(share, self.round, self.start, self.mark)
