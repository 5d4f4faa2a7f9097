"""What every provider promises, one check each; ``check_provider`` runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from nightkiln.core.errors import OfferGone, ProviderError, WorkerLost
from nightkiln.core.events import ProviderFacts
from nightkiln.core.market import is_sane
from nightkiln.core.model import AttemptId, LeaseId
from nightkiln.temporary import temporary_folder
from nightkiln.testing.provider_case import Broken, Case, bounded, ended, require

Check = Callable[[Case], Awaitable[None]]


async def offers_can_be_rented_from(case: Case) -> None:
    """Offers make sense, and asking for them changes nothing."""
    provider, before = case.provider, await case.owned()
    facts = ProviderFacts(provider.name, provider.bills, provider.can_list)
    offers = await case.offers()
    for offer in offers:
        require(offer.provider == provider.name, f"{offer.ref} is offered by {offer.provider!r}")
        require(is_sane(offer, facts), f"the figures of {offer.ref} cannot be: {offer}")
    names = [offer.ref for offer in offers]
    require(len(set(names)) == len(names), "two offers have the same ref")
    require(len(await case.offers(1)) <= 1, "more offers than the limit")
    require(await case.owned() == before, "asking for offers has rented something")


async def renting_twice_is_renting_once(case: Case) -> None:
    """The same lease id gives the same lease."""
    offer, name = await case.offer(), case.name()
    first, second = await case.rent(offer, name), await case.rent(offer, name)
    require(first.id == name, f"asked for {name}, got {first.id}")
    require(first.offer.host_key == offer.host_key, "it is another machine than was offered")
    require(first == second, f"the second call gave another lease: {first}, {second}")
    require(await case.owned() == [name], f"owned lists {await case.owned()}, rented is {name}")


async def what_is_rented_is_listed_and_no_more(case: Case) -> None:
    """``owned`` is the whole truth, lease by lease."""
    require(await case.owned() == [], f"before anything is rented owned lists {await case.owned()}")
    rented = [(await case.rent(await case.offer())).id]
    rest = [one for one in await case.offers() if one.provider == case.provider.name]
    if rest:
        rented.append((await case.rent(rest[0])).id)
    listed = await case.owned()
    require(listed == sorted(rented), f"rented are {sorted(rented)}, listed {listed}")
    await case.release(rented[0])
    listed = await case.owned()
    require(listed == rented[1:], f"{rented[0]} is released, and {listed} are listed")


async def releasing_is_for_sure_and_may_be_repeated(case: Case) -> None:
    """Also what is gone, or never was, is released."""
    name = (await case.rent(await case.offer())).id
    await case.release(name, LeaseId(f"{name}0"))
    require(await case.owned() == [], "what was released is still listed")
    await case.release(name)
    await case.release(LeaseId(f"{name}1"))
    await case.release()


async def what_somebody_has_is_gone(case: Case) -> None:
    """A machine is rented once, and ``OfferGone`` says so; nothing is left of the second try."""
    offer = await case.offer()
    first = await case.rent(offer)
    other = case.name()
    try:
        await case.rent(offer, other)
    except OfferGone:
        require(await case.owned() == [first.id], "a renting that failed left something billed")
    else:
        raise Broken("the same offer was rented to two leases; OfferGone was to be raised")


async def what_was_never_offered_is_gone(case: Case) -> None:
    """An offer of before, or of nobody, is no accident."""
    offer = await case.offer()
    try:
        await case.rent(replace(offer, ref=f"{offer.ref}-no-such", machine="no-such"))
    except (OfferGone, ProviderError):
        require(await case.owned() == [], "a renting that failed left something billed")
    else:
        raise Broken("an offer that nobody made was rented")


async def another_process_finds_what_was_rented(case: Case) -> None:
    """What a dead run has rented is listed for the next, which may go on with it or release it."""
    if not case.provider.can_list:
        return
    offer = await case.offer()
    kept, dropped = await case.rent(offer), None
    async with case.subject.make() as provider:
        other = Case(case.subject, provider)
        require(await other.owned() == [kept.id], "another process does not see it")
        again = await other.rent(offer, kept.id)
        require(again.id == kept.id, f"another process got {again.id}")
        require(await other.owned() == [kept.id], "renting it again rented a second one")
        dropped = kept.id
        await other.release(dropped)
        require(await other.owned() == [], "another process cannot release it")
    require(await case.owned() == [], "it was released elsewhere, and is still listed")


async def a_lease_ends_by_itself(case: Case) -> None:
    """At ``expires_at_s``, whatever became of us; renting it again lets it live longer."""
    life_s = case.subject.mortal_s
    if life_s is None:
        return
    offer = await case.offer()
    lease = await case.rent(offer, life_s=life_s)
    await case.subject.pass_time(life_s / 2)
    await case.rent(offer, lease.id, life_s=life_s)
    await case.subject.pass_time(life_s * 0.75)
    require(await case.owned() == [lease.id], "a lease that was extended ended as agreed first")
    await case.subject.pass_time(life_s)
    require(await case.owned() == [], "a lease outlived its expires_at_s")
    await case.release(lease.id)


async def a_worker_renders(case: Case) -> None:
    """``connect`` yields a worker once it renders; leaving it ends no lease."""
    job = case.subject.job
    if job is None:
        return
    lease = await case.rent(await case.offer())
    before = asyncio.all_tasks()
    async with case.provider.connect(lease) as worker:
        attempt = AttemptId(f"{lease.id}-0")
        ticket = await worker.submit(job, attempt)
        require(await worker.submit(job, attempt) == ticket, "one attempt has two tickets")
        rendered = await worker.result(ticket)
        require(bool(rendered.outputs), "the job gave no output")
        with temporary_folder() as folder:
            for number, output in enumerate(rendered.outputs):
                await output.save(Path(folder) / f"{number}")
        await worker.cancel(ticket)
        await worker.forget(ticket)
    await ended(before, case.subject, "leaving connect")
    require(await case.owned() == [lease.id], "leaving connect ended the lease")


async def connecting_may_be_called_off(case: Case) -> None:
    """Cancelled, ``connect`` leaves the lease as it was and nothing at work."""
    if case.subject.job is None:
        return
    lease = await case.rent(await case.offer())
    before = asyncio.all_tasks()

    async def connect() -> None:
        async with case.provider.connect(lease):
            await asyncio.get_running_loop().create_future()

    connecting = asyncio.create_task(connect())
    await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.wait([connecting])
    require(connecting.cancelled(), "connect does not let itself be cancelled")
    await ended(before, case.subject, "a connect that is cancelled")
    require(await case.owned() == [lease.id], "a connect that is cancelled ended the lease")


async def what_is_released_cannot_be_connected_to(case: Case) -> None:
    """``WorkerLost`` says that there is nothing."""
    if case.subject.job is None:
        return
    lease = await case.rent(await case.offer())
    await case.release(lease.id)

    async def connect() -> None:
        async with case.provider.connect(lease):
            raise Broken("a lease that is released can still be connected to")

    with suppress(WorkerLost):
        await bounded("connect", connect())


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        check.__name__: check
        for check in (
            offers_can_be_rented_from,
            renting_twice_is_renting_once,
            what_is_rented_is_listed_and_no_more,
            releasing_is_for_sure_and_may_be_repeated,
            what_somebody_has_is_gone,
            what_was_never_offered_is_gone,
            another_process_finds_what_was_rented,
            a_lease_ends_by_itself,
            a_worker_renders,
            connecting_may_be_called_off,
            what_is_released_cannot_be_connected_to,
        )
    }
)
