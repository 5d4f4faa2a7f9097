"""The calls about the account: credit, charges, keys, and what hardly anybody asks."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from nightkiln.core.model import Usd
from nightkiln.testing.vast_market.calls import Call, Endpoint
from nightkiln.testing.vast_market.contract import Contract
from nightkiln.testing.vast_market.exchange import Exchange
from nightkiln.testing.vast_market.keys import Keys
from nightkiln.testing.vast_market.meter import Bill
from nightkiln.testing.vast_market.query import whole
from nightkiln.testing.vast_market.replies import Refused, Reply, succeeded

CHARGES_DEFAULT, CHARGES_MAX = 20, 500
SECONDS_PER_HOUR = 3_600
SECONDS_PER_DAY = 86_400
JOBS_MAX = 1_000
SCHEDULE = "/api/v0/commands/schedule_job/"
FREQUENCIES = frozenset({"HOURLY", "DAILY", "WEEKLY"})
ROOT_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nsimulated\n-----END CERTIFICATE-----\n"


class Account:
    """Handlers over one market and its keys."""

    def __init__(self, exchange: Exchange, keys: Keys) -> None:
        self._exchange, self._keys = exchange, keys
        self.scheduled: list[dict[str, Any]] = []  # jobs that were asked for; none is carried out

    def endpoints(self) -> list[Endpoint]:
        """The table of these calls."""
        table = (
            ("user", "GET", "/api/v0/users/current/", "user_read", None, self._user),
            ("charges", "GET", "/api/v0/charges/", "billing_read", "charges", self._charges),
            ("invoices", "GET", "/api/v1/invoices/", "billing_read", "charges", self._invoices),
            ("invoices", "GET", "/api/v0/users/me/invoices/", "billing_read", "charges", self._old),
            ("contracts", "POST", "/api/v0/contracts/fetch/", "instance_read", None, self._fetch),
            ("reports", "GET", r"/api/v0/machines/(\d+)/reports/", "misc", "reports", self._none),
            ("volumes", "GET", "/api/v0/volumes/", "misc", "volumes", self._volumes),
            ("keys", "POST", "/api/v0/auth/apikeys/", "user_write", "keys", self._key),
            ("schedule", "POST", SCHEDULE, "instance_write", None, self._schedule),
            ("gpu_names", "GET", "/api/v0/gpu_names/unique/", None, None, self._gpu_names),
            ("certificate", "GET", r"/static/jvastai_root\.cer/", None, None, self._certificate),
        )
        return [
            Endpoint(name, method, re.compile(path), permission, limit, handler)
            for name, method, path, permission, limit, handler in table
        ]

    async def _user(self, call: Call) -> Reply:
        del call
        credit = self._exchange.credit - self._exchange.spent
        return Reply(
            {
                "id": 1,
                "username": "simulated",
                "email": "simulated@example.org",
                "credit": float(credit),
                "balance": 0.0,
                "balance_threshold": 0.0,
                "autobill_threshold": None,
                "has_billing": False,
                "ssh_key": "",
            }
        )

    # Bills.

    async def _charges(self, call: Call) -> Reply:
        """Per contract, for those that existed within the days asked for."""
        filters = call.parameter("select_filters")
        day = filters.get("day") if isinstance(filters, dict) else None
        if not isinstance(day, dict):
            raise Refused(400, "invalid_args", "select_filters wants a range of days")
        types = filters.get("type", {}).get("in") if isinstance(filters, dict) else None
        from_s, to_s = float(day.get("gte", 0)), float(day.get("lte", float("inf")))
        wanted = not types or "instance" in types
        found = [
            self._charge(contract)
            for contract in self._exchange.contracts.values()
            if wanted and _day(contract.created_s) <= to_s and self._end_s(contract) >= from_s
        ]
        if call.parameter("latest_first") is True:
            found.reverse()
        limit = whole(call.parameter("limit"), CHARGES_DEFAULT, CHARGES_MAX)
        start = whole(call.parameter("after_token"), 1, len(found) + 1) - 1
        page = found[start : start + limit]
        is_more = start + limit < len(found)
        return succeeded(
            results=page,
            count=len(page),
            total=len(found),
            next_token=str(start + limit + 1) if is_more else None,
        )

    def _end_s(self, contract: Contract) -> float:
        ended_s = contract.destroyed_s
        return ended_s if ended_s is not None else self._exchange.wall_s

    def _charge(self, contract: Contract) -> dict[str, Any]:
        bill = self._exchange.bill(contract)
        items = [self._item(*item) for item in _items(bill, contract)]
        return {
            "start": contract.created_s,
            "end": self._end_s(contract),
            "type": "instance",
            "source": f"instance-{contract.id}",
            "description": f"Instance {contract.id}",
            "amount": self._rounded(bill.usd),
            "metadata": {"label": contract.label, "template_id": None},
            "items": items,
        }

    def _item(self, kind: str, said: str, usd: Usd) -> dict[str, Any]:
        return {"type": kind, "description": said, "amount": self._rounded(usd)}

    def _rounded(self, usd: Usd) -> float:
        return float(round(usd, self._exchange.rules.charge_decimals))

    async def _invoices(self, call: Call) -> Reply:
        del call
        return succeeded(results=[], count=0, total=0, next_token=None)

    async def _old(self, call: Call) -> Reply:
        del call
        return Reply({"invoices": [], "current": {"charges": float(self._exchange.spent)}})

    # The rest.

    async def _fetch(self, call: Call) -> Reply:
        """Contracts by their exact label."""
        label = call.fields.get("label")
        found = [one for one in self._exchange.contracts.values() if one.label == label]
        contracts = [self._exchange.row(one) for one in found if self._exchange.is_shown(one)]
        return succeeded(contracts=contracts)

    async def _none(self, call: Call) -> Reply:
        del call
        return succeeded(results=[])

    async def _volumes(self, call: Call) -> Reply:
        del call
        return succeeded(volumes=[])

    async def _key(self, call: Call) -> Reply:
        name = str(call.fields.get("name", ""))
        return succeeded(**self._keys.create(name, call.fields.get("permissions")))

    async def _schedule(self, call: Call) -> Reply:
        """Taken down, and never carried out: whether the service would is not known."""
        job = call.fields
        if job.get("frequency") not in FREQUENCIES or len(self.scheduled) >= JOBS_MAX:
            raise Refused(400, "invalid_args", f"frequency is one of {', '.join(FREQUENCIES)}")
        known = {one.get("instance_id") for one in self.scheduled}
        if job.get("instance_id") in known:
            raise Refused(422, "already_exists", "a job is scheduled for this instance")
        self.scheduled.append(job)
        return succeeded(id=len(self.scheduled))

    async def _gpu_names(self, call: Call) -> Reply:
        del call
        names = sorted({machine.gpu for machine in self._exchange.night.machines})
        return succeeded(gpu_names=names)

    async def _certificate(self, call: Call) -> Reply:
        del call
        return Reply(ROOT_CERTIFICATE)


def _day(at_s: float) -> float:
    """When that day began, in UTC: charges are counted by days."""
    return at_s - at_s % SECONDS_PER_DAY


def _items(bill: Bill, contract: Contract) -> list[tuple[str, str, Usd]]:
    """A bill in the service's own parts and words."""
    prices, usd_per_hour = contract.meter.prices, contract.meter.usd_per_hour
    return [
        ("gpu", _hours(bill.gpu_s, usd_per_hour), bill.gpu_usd),
        ("disk", _hours(bill.storage_s, prices.storage_usd_per_hour), bill.storage_usd),
        ("bwd", f"{bill.gb_in:.3f} GB at ${prices.usd_per_gb_in:.4f}/GB", bill.in_usd),
        ("bwu", f"{bill.gb_out:.3f} GB at ${prices.usd_per_gb_out:.4f}/GB", bill.out_usd),
    ]


def _hours(seconds: Decimal, usd_per_hour: Usd) -> str:
    return f"{seconds / SECONDS_PER_HOUR:.3f} hours at ${usd_per_hour:.3f}/hour"
