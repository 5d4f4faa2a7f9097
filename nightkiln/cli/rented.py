"""The part of ``nightkiln doctor`` about machines that are rented: account, book, state folder."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from nightkiln.cli.findings import Finding
from nightkiln.core.errors import StoreUnusable
from nightkiln.credit import SeenAccount, seen_account
from nightkiln.deployment import app_there, seen_app
from nightkiln.lease_book import Entry, LeaseBook, Standing
from nightkiln.places import GET_A_KEY, GET_TOKENS
from nightkiln.settings import Settings

OTHERS = stat.S_IRWXG | stat.S_IRWXO
LEASES_NAMED = 3


def rented(settings: Settings, *, digest: str | None = None) -> Iterator[Finding]:
    """What there is to know before machines are rented, and of those that are.

    ``digest``: of the environment that the app on Modal has to be for; None: whatever it is for.
    """
    if settings.vast_api_key is None:
        yield Finding("vast", None, f"no key; to rent machines, {GET_A_KEY}")
    else:
        yield from _account(asyncio.run(seen_account(settings)), settings)
    yield from _modal(settings, digest)
    yield from _state(settings.state_folder)


def _account(seen: SeenAccount, settings: Settings) -> Iterator[Finding]:
    where = f"vast at {settings.vast_url}"
    if seen.problem is not None:
        yield Finding(where, False, seen.problem, "docs/how-to/vast.md goes through it")
    else:
        yield Finding(where, True, f"the key works; fleet {settings.fleet}")
    if seen.missing:
        said = f"the key lacks {', '.join(seen.missing)}"
        yield Finding("vast permissions", False, said, "docs/how-to/vast.md has them all")
    if seen.credit is None:
        return
    said = f"{seen.credit:.2f} USD, all prepaid credit of the account"
    warning = seen.warning(settings.budget)
    fix = "move credit elsewhere, or use an account of its own for this"
    yield Finding("worst case", warning is None, said if warning is None else warning, fix)


def _modal(settings: Settings, digest: str | None) -> Iterator[Finding]:
    if not settings.has_modal:
        yield Finding("modal", None, f"no token; for serverless GPUs, {GET_TOKENS}")
        return
    fix = "docs/how-to/modal.md goes through it"
    if digest is None:
        said, is_there = asyncio.run(app_there(settings))
        yield Finding("modal", bool(is_there), f"app {settings.modal_app}: {said}", fix)
        return
    seen = asyncio.run(seen_app(settings, digest=digest))
    yield Finding("modal", seen.problem is None, seen.line().removeprefix("modal: "), fix)


def _state(folder: Path) -> Iterator[Finding]:
    if not folder.exists():
        yield Finding("state", None, f"{folder} will be made by the first run that rents")
        return
    mode = folder.stat().st_mode
    is_own = not mode & OTHERS
    fix = f"chmod 700 {folder}: it holds keys of rented machines"
    yield Finding("state", is_own, f"{folder} has mode {stat.S_IMODE(mode):04o}", fix)
    try:
        entries = LeaseBook(folder).entries()
    except StoreUnusable as error:
        yield Finding("leases", False, str(error), "make the folder readable")
        return
    yield _leases([each for each in entries if each.standing is not Standing.ENDED])


def _leases(held: list[Entry]) -> Finding:
    """Leases that may be billed; old ones of a run that is gone should have been given back."""
    if not held:
        return Finding("leases", True, "none is rented, as far as this computer knows")
    late = [each for each in held if each.expires_s < time.time()]
    named = ", ".join(each.lease_id for each in (late or held)[:LEASES_NAMED])
    more = len(late or held) - LEASES_NAMED
    named += f" and {more} more" if more > 0 else ""
    if late:
        said = f"{len(late)} should have ended, and nobody said that they have: {named}"
        return Finding("leases", False, said, "nightkiln leases looks, nightkiln reap ends them")
    return Finding("leases", None, f"{len(held)} may be billed now: {named}; see nightkiln leases")
