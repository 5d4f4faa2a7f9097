"""All machines of the account, listed once for everybody who wants to know.

However many leases there are, the service is asked for the whole list, page by page, and all who
wait share the answer. A listing is complete or it fails: it never is short.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nightkiln.providers.vast.errors import Kind, VastFailed
from nightkiln.providers.vast.labels import read_label
from nightkiln.providers.vast.rows import Row, read_row
from nightkiln.providers.vast.service import VastService, until_answered
from nightkiln.providers.vast.values import whole

PAGES_MAX = 400  # 10,000 machines
TOKEN_CHARS_MAX = 4_096
EMPTY_LOOKS = 3  # in a row that there is nothing at all, before it is believed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every machine of the account at one moment."""

    begun_s: float  # by the loop's clock: it tells nothing of what happened later
    rows: Mapping[int, Row] = field(default_factory=dict)  # by contract
    unreadable: int = 0  # rows without a number that could be read

    def labelled(self, label: str) -> list[Row]:
        """The machines of this label, oldest first; more than one is one too many."""
        found = [row for row in self.rows.values() if row.label == label]
        return sorted(found, key=lambda row: row.contract)


class Listing:
    """Snapshots on demand; ``seen`` is called with each new one.

    ``label_of`` is asked for machines that come without their label: we may know it.
    """

    def __init__(
        self,
        service: VastService,
        seen: Callable[[Snapshot], None],
        *,
        label_of: Callable[[int], str],
        list_s: float,
    ) -> None:
        self._service, self._seen, self._list_s = service, seen, list_s
        self._label_of = label_of
        self._asking = asyncio.Lock()
        self._last: Snapshot | None = None
        self._failed: tuple[float, VastFailed] | None = None

    @property
    def asked_s(self) -> float:
        """When the last listing was begun, whatever came of it, by the loop's clock."""
        taken_s = self._last.begun_s if self._last is not None else -math.inf
        return max(taken_s, self._failed[0] if self._failed is not None else -math.inf)

    async def after(self, moment_s: float) -> Snapshot:
        """A snapshot that was begun at ``moment_s`` (by the loop's clock) or later.

        Raises:
            VastFailed: the service has not listed everything; said to all who waited for it.
        """
        async with self._asking:
            if self._last is not None and self._last.begun_s >= moment_s:
                return self._last
            if self._failed is not None and self._failed[0] >= moment_s:
                raise _again(self._failed[1])
            begun_s = asyncio.get_running_loop().time()
            try:
                self._last = await self._believed()
            except VastFailed as failed:
                self._failed = begun_s, failed
                raise
            self._seen(self._last)
            return self._last

    async def _believed(self) -> Snapshot:
        """What the service says; that there is nothing it has to say more than once."""
        for _ in range(EMPTY_LOOKS):
            snapshot = await until_answered(self._all, within_s=self._list_s)
            if snapshot.rows or snapshot.unreadable:
                break
        return snapshot

    async def _all(self) -> Snapshot:
        """Every page, once."""
        begun_s = asyncio.get_running_loop().time()
        rows: dict[int, Row] = {}
        unreadable, tokens = 0, set[str]()
        token: str | None = None
        for _ in range(PAGES_MAX):
            answer = await self._page(token)
            for raw in answer["instances"]:
                row = read_row(raw)
                if row is None:
                    unreadable += 1
                elif row.label:
                    rows[row.contract] = row
                else:
                    rows[row.contract] = replace(row, label=self._label_of(row.contract))
            token = _token(answer)
            if token is None:
                _check_whole(answer, rows, unreadable)
                return Snapshot(begun_s, rows, unreadable)
            if token in tokens:
                raise _senseless("the same page again")
            tokens.add(token)
        raise _senseless(f"more than {PAGES_MAX} pages")

    async def _page(self, token: str | None) -> Mapping[str, Any]:
        try:
            answer = await self._service.page(token)
        except VastFailed as failed:
            if token is None or failed.kind is not Kind.REFUSED:
                raise
            # A page that cannot be continued from: the list is begun anew.
            raise _senseless("the next page is refused") from failed
        if not isinstance(answer.get("instances"), list):
            raise _senseless("an answer without machines")
        return answer


def _token(answer: Mapping[str, Any]) -> str | None:
    token = answer.get("next_token")
    if token is None or token == "":
        return None
    if not isinstance(token, str) or len(token) > TOKEN_CHARS_MAX:
        raise _senseless("a next page that cannot be asked for")
    return token


def _check_whole(answer: Mapping[str, Any], rows: Mapping[int, Row], unreadable: int) -> None:
    """The last page says how many there are, and how many of each label."""
    total = whole(answer.get("total_instances"))
    if total is not None and total > len(rows) + unreadable:
        raise _senseless(f"{len(rows)} of {total} machines")
    counts = answer.get("label_counts")
    labels = {row.label for row in rows.values()}
    told = counts if isinstance(counts, dict) and not unreadable else {}
    missing = [label for label in told if read_label(label) is not None and label not in labels]
    if any(whole(told[label]) is not None for label in missing):
        raise _senseless("labels without their machines")


def _senseless(said: str) -> VastFailed:
    return VastFailed(Kind.SERVICE, "list", said=said)


def _again(failed: VastFailed) -> VastFailed:
    """The same failure for one more who waited: an exception has one traceback."""
    copy = VastFailed(failed.kind, failed.verb)
    copy.args = failed.args
    return copy
