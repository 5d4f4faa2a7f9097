"""The calls by which machines are found, rented, watched and given back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nightkiln.core.model import Kind
from nightkiln.testing.vast_market.calls import Call, Endpoint, Handler
from nightkiln.testing.vast_market.contract import Contract
from nightkiln.testing.vast_market.exchange import Exchange, Terms
from nightkiln.testing.vast_market.fault_kinds import Afflicts, Raced
from nightkiln.testing.vast_market.meter import exact
from nightkiln.testing.vast_market.orders import checked_label, checked_price, order_of
from nightkiln.testing.vast_market.query import LIMIT_DEFAULT, LIMIT_MAX, matches, ordered, whole
from nightkiln.testing.vast_market.replies import Refused, Reply, succeeded

ALLOCATED_GB_DEFAULT = 5.0
ONE = r"/api/v0/instances/(\d+)/"  # open to the container itself
IDS_MAX = 1_000  # in one call
KINDS = {
    "on-demand": Kind.ON_DEMAND,
    "ondemand": Kind.ON_DEMAND,
    "reserved": Kind.ON_DEMAND,
    "bid": Kind.INTERRUPTIBLE,
    "interruptible": Kind.INTERRUPTIBLE,
}
# Columns that the listing filters and sorts by; others are computed, and refused.
COLUMNS = frozenset(
    {"id", "label", "actual_status", "intended_status", "cur_state", "gpu_name", "machine_id"}
    | {"verification", "start_date", "image_uuid", "is_bid"}
)


class Rentals:
    """Handlers over one market."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def endpoints(self) -> list[Endpoint]:
        """The table of these calls."""
        read, write = "instance_read", "instance_write"
        table: tuple[tuple[str, str, str, str | None, str | None, Handler], ...] = (
            ("search", "POST", "/api/v0/bundles/", "misc", "search", self._search),
            ("search", "PUT", "/api/v0/search/asks/", "misc", "search", self._search_new),
            ("create_bulk", "POST", "/api/v0/asks/bulk/", write, "create", self._bulk),
            ("create", "PUT", r"/api/v0/asks/(\d+)/", write, "create", self._create),
            ("list", "GET", "/api/v1/instances/", read, "list", self._list),
            ("list_v0", "GET", "/api/v0/instances/", read, "list", self._retired),
            ("destroy_bulk", "DELETE", "/api/v0/instances/", write, "destroy", self._many),
            ("manage", "PUT", "/api/v0/instances/", write, "manage", self._manage_many),
            ("show", "GET", ONE, read, "show", self._show),
            ("destroy", "DELETE", ONE, write, "destroy", self._destroy),
            ("manage", "PUT", ONE, write, "manage", self._manage),
            ("bid", "PUT", _act("bid_price"), write, "bid", self._bid),
            ("reboot", "PUT", _act("reboot"), write, "reboot", self._reboot),
            ("recycle", "PUT", _act("recycle"), write, "reboot", self._reboot),
            ("logs", "PUT", _act("request_logs"), read, None, self._logs),
            ("execute", "PUT", _act("command"), write, "execute", self._logs),
            ("s3", "GET", r"/s3/(\d+)\.log/", None, None, self._log),
        )
        return [
            Endpoint(name, method, re.compile(path), permission, limit, handler, path == ONE)
            for name, method, path, permission, limit, handler in table
        ]

    # Offers.

    async def _search(self, call: Call) -> Reply:
        return self._found(call.fields)

    async def _search_new(self, call: Call) -> Reply:
        query = call.fields.get("q")
        if not isinstance(query, dict):
            raise Refused(400, "invalid_args", "q is missing")
        return self._found(query)

    def _found(self, query: dict[str, Any]) -> Reply:
        kind = KINDS.get(str(query.get("type", "on-demand")))
        if kind is None:
            raise Refused(400, "invalid_args", f"unknown type {query.get('type')!r}")
        disk_gb = float(query.get("allocated_storage") or ALLOCATED_GB_DEFAULT)
        rows = [row for row in self._exchange.offers(kind, disk_gb) if matches(row, query)]
        order = query.get("order", [["score", "desc"]])
        found = ordered(rows, order)[: whole(query.get("limit"), LIMIT_DEFAULT, LIMIT_MAX)]
        return succeeded(offers=[_public(row) for row in found])

    # Creating.

    async def _create(self, call: Call) -> Reply:
        return self._rented(call.numbers[0], call)

    async def _bulk(self, call: Call) -> Reply:
        """The first of several offers that can be had."""
        for ask_id in _ids(call.fields.get("ids")):
            try:
                return self._rented(ask_id, call)
            except Refused as refused:
                last = refused
        raise last

    def _rented(self, ask_id: int, call: Call) -> Reply:
        body, plays = call.fields, call.plays
        terms = Terms(
            cancels_if_unavailable=bool(body.get("cancel_unavail")),
            is_taken=any(isinstance(play, Raced) for play in plays),
            trouble=frozenset(play.trouble for play in plays if isinstance(play, Afflicts)),
        )
        contract = self._exchange.rent(ask_id, order_of(body), terms)
        return succeeded(new_contract=contract.id, instance_api_key=contract.key)

    # Watching.

    async def _list(self, call: Call) -> Reply:
        exchange = self._exchange
        shown = [one for one in exchange.contracts.values() if exchange.is_shown(one)]
        rows = [exchange.row(one) for one in shown]
        filters = call.parameter("select_filters")
        if isinstance(filters, dict):
            _check_columns(list(filters))
            rows = [row for row in rows if matches(row, filters)]
        rows = [dict(row) for row in ordered(rows, _order(call.parameter("order_by")))]
        most = exchange.rules.page_rows_max
        limit = whole(call.parameter("limit"), most, most)
        start = _start(call.parameter("after_token"), len(rows))
        page, more = rows[start : start + limit], start + limit < len(rows)
        return succeeded(
            instances=[_selected(row, call.parameter("select_cols")) for row in page],
            instances_found=len(page),
            total_instances=len(rows),
            label_counts=Counter(one.label for one in shown if one.label is not None),
            next_token=str(start + limit) if more else None,
        )

    async def _retired(self, call: Call) -> Reply:
        del call
        message = "This endpoint is deprecated; use /api/v1/instances/"
        raise Refused(410, "deprecated_endpoint", message)

    async def _show(self, call: Call) -> Reply:
        contract = self._exchange.contract(call.numbers[0])
        if contract is None:
            return Reply({"instances": None})
        row = self._exchange.row(contract)
        if not self._exchange.rules.has_ports_by_id:
            del row["ports"]
        return Reply({"instances": row})

    async def _logs(self, call: Call) -> Reply:
        contract = self._known(call)
        return succeeded(result_url=f"{self._exchange.url}/s3/{contract.id}.log")

    async def _log(self, call: Call) -> Reply:
        contract = self._known(call)
        return Reply(f"{contract.said if contract.said is not None else 'no output yet'}\n")

    # Changing and giving back.

    async def _destroy(self, call: Call) -> Reply:
        self._exchange.lives.destroy(self._known(call))
        return succeeded()

    async def _many(self, call: Call) -> Reply:
        """All that are there; those that are gone already do not matter."""
        for contract in self._listed(call.fields.get("instance_ids")):
            self._exchange.lives.destroy(contract)
        return succeeded()

    async def _manage(self, call: Call) -> Reply:
        self._change(self._known(call), call.fields)
        return succeeded()

    async def _manage_many(self, call: Call) -> Reply:
        for contract in self._listed(call.fields.get("ids")):
            self._change(contract, call.fields)
        return succeeded()

    def _change(self, contract: Contract, body: dict[str, Any]) -> None:
        if "label" in body:
            contract.label = checked_label(body["label"])
        state = body.get("state")
        if state == "stopped":
            self._exchange.lives.stop(contract)
        elif state == "running" and contract.intended != "running":
            self._exchange.lives.start(contract)
        elif state not in {None, "running"}:
            raise Refused(400, "invalid_args", f"unknown state {state!r}")

    async def _bid(self, call: Call) -> Reply:
        contract, price = self._known(call), call.fields.get("price")
        if contract.kind is not Kind.INTERRUPTIBLE:
            raise Refused(400, "invalid_args", "an on-demand instance has no bid")
        if price is None and contract.is_beatable:  # the price that wins
            price = contract.rival_usd_h
        if price is not None:
            self._exchange.bid(contract, exact(checked_price(price)))
        return succeeded()

    async def _reboot(self, call: Call) -> Reply:
        contract = self._known(call)
        if contract.actual != "running":
            raise Refused(400, "invalid_args", "the instance is not running")
        self._exchange.lives.reboot(contract)
        return succeeded()

    def _known(self, call: Call) -> Contract:
        contract = self._exchange.contract(call.numbers[0])
        if contract is None:
            raise Refused(404, "no_such_instance", f"Instance {call.numbers[0]} not found")
        return contract

    def _listed(self, ids: Any) -> list[Contract]:
        found = [self._exchange.contract(contract_id) for contract_id in _ids(ids)]
        return [contract for contract in found if contract is not None]


def _act(what: str) -> str:
    return rf"/api/v0/instances/{what}/(\d+)/"


def _public(row: Any) -> dict[str, Any]:
    """What a search shows: ``verified`` can be asked for and is not told."""
    return {name: value for name, value in row.items() if name != "verified"}


def _ids(ids: Any) -> list[int]:
    if not isinstance(ids, list) or len(ids) > IDS_MAX:
        raise Refused(400, "invalid_args", f"wants a list of at most {IDS_MAX} ids")
    try:
        return [int(one) for one in ids]
    except (TypeError, ValueError):
        raise Refused(400, "invalid_args", "an id is a number") from None


def _check_columns(names: Sequence[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise Refused(400, "invalid_args", f"cannot filter by {name!r}")


def _order(order: Any) -> list[list[str]]:
    """From ``[{"col": ..., "dir": ...}]`` to pairs."""
    if not isinstance(order, list) or not order:
        return [["id", "asc"]]
    pairs = [
        [str(one.get("col")), str(one.get("dir", "asc"))] for one in order if isinstance(one, dict)
    ]
    _check_columns([name for name, _ in pairs])
    return pairs


def _start(token: Any, rows: int) -> int:
    """Where a page begins; rows that are gone since then do not matter."""
    if token is None:
        return 0
    try:
        start = int(token)
    except (TypeError, ValueError):
        start = -1
    if start < 0:
        raise Refused(400, "invalid_args", "invalid after_token")
    return min(start, rows)


def _selected(row: dict[str, Any], columns: Any) -> dict[str, Any]:
    if not isinstance(columns, list) or not columns or "*" in columns:
        return row
    return {name: value for name, value in row.items() if name in columns}
