"""Results that an earlier process has paid for, fetched by this one."""

from __future__ import annotations

import asyncio

from nightkiln.core.errors import RenderFailed, WorkerLost
from nightkiln.core.model import Lease, LeaseId, Offer, Ticket
from nightkiln.ports.worker import Rendered
from nightkiln.providers.modal.calls import Call, OpenCalls
from nightkiln.providers.modal.desk import Desk, Slot
from nightkiln.providers.modal.errors import NAME, ModalFailed
from nightkiln.providers.modal.worker import rendered

NOBODY = LeaseId("")


async def recalled(
    desk: Desk, calls: OpenCalls, ticket: Ticket, *, within_s: float
) -> Rendered | None:
    """What a call has made; None: nothing that can be used, and it is over.

    Raises:
        ModalFailed: nobody answers, or nobody confirms that a call which takes too long has ended.
    """
    written = await asyncio.to_thread(calls.all)
    known = next((call for call in written if call.call_id == ticket), None)
    call = known if known is not None else _unknown(desk, ticket)
    slot = Slot(Lease(call.lease_id, Offer(NAME, "recalled")), None, call.usd_per_s, call.expires_s)
    try:
        async with asyncio.timeout(within_s):
            reply = await desk.reply(slot, call)
        return rendered(reply, call, version=desk.deployed.version)
    except TimeoutError:
        await desk.cancel(slot, call, ends_container=True)
    except (RenderFailed, WorkerLost) as error:
        if isinstance(error.__cause__, ModalFailed) and not error.__cause__.is_over:
            raise error.__cause__ from None  # it may run on, so it stays written down
        await desk.close(slot, call)
    return None


def _unknown(desk: Desk, ticket: Ticket) -> Call:
    """A call that only the batch's journal knows; what it cost is in its lease's last row."""
    now_s = desk.clock()
    return Call(ticket, NOBODY, "", "", desk.usd_per_s_max, now_s, now_s)
