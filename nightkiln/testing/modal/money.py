"""The calls about money: what things cost, and what was billed, by full hour or day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import Status
from modal_proto import api_pb2 as pb

from nightkiln.core.model import Usd
from nightkiln.testing.modal.apps import Apps
from nightkiln.testing.modal.billing import Billing, Spell
from nightkiln.testing.modal.rules import Rules
from nightkiln.testing.modal.wire import Answer, refusal

WORKSPACE = "nightkiln-fake"
RESOLUTIONS: Mapping[str, timedelta] = {"h": timedelta(hours=1), "d": timedelta(days=1)}
PLAN = "billing reports are not part of this workspace's plan"


class Money:
    """Rates and the report."""

    def __init__(self, rules: Rules, apps: Apps, billing: Callable[[], Billing]) -> None:
        self._rules, self._apps, self._billing = rules, apps, billing

    def answers(self) -> Mapping[str, Answer]:
        return {
            "WorkspaceBillingRates": self._rates,
            "WorkspaceBillingReport": self._report,
            "WorkspaceNameLookup": self._name,
        }

    async def _name(self, _request: Message) -> Message:
        return pb.WorkspaceNameLookupResponse(workspace_name=WORKSPACE, username=WORKSPACE)

    async def _rates(self, _request: pb.WorkspaceBillingRatesRequest) -> Message:
        rates = self._rules.usd_per_s
        lines = [f"{name}  {usd} USD/s" for name, usd in rates.items()]
        return pb.WorkspaceBillingRatesResponse(rates=rates, formatted="\n".join(lines))

    async def _report(self, request: pb.WorkspaceBillingReportRequest) -> list[Message]:
        if not self._rules.has_report:
            raise refusal(Status.PERMISSION_DENIED, PLAN)
        if request.resolution not in RESOLUTIONS:
            raise refusal(Status.INVALID_ARGUMENT, "resolution is h or d")
        step = RESOLUTIONS[request.resolution]
        start = _floor(request.start_timestamp.ToDatetime(tzinfo=UTC), step)
        end = _floor(request.end_timestamp.ToDatetime(tzinfo=UTC), step)
        found: dict[tuple[str, datetime], dict[str, Usd]] = defaultdict(dict)
        billing = self._billing()
        for spell in billing.spells:
            for part, begin in cut(spell, step):
                if start <= begin < end:
                    sums = found[part.app_id, begin]
                    for name, usd in billing.usd_of(part).items():
                        sums[name] = sums.get(name, Decimal(0)) + usd
        return [self._row(app_id, begin, costs) for (app_id, begin), costs in found.items()]

    def _row(self, app_id: str, begin: datetime, costs: Mapping[str, Usd]) -> Message:
        app = self._apps[app_id]
        interval = Timestamp()
        interval.FromDatetime(begin)
        return pb.WorkspaceBillingReportItem(
            object_id=app_id,
            description=app.name,
            environment_name=app.environment,
            interval=interval,
            cost=str(sum(costs.values(), Decimal(0))),
            tags=app.tags,
            cost_by_resource={name: str(usd) for name, usd in costs.items()},
        )


def _floor(when: datetime, step: timedelta) -> datetime:
    """The full hour or day at or before; of an end that is under way nothing is reported."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return when - (when - epoch) % step


def cut(spell: Spell, step: timedelta) -> list[tuple[Spell, datetime]]:
    """A stretch, cut where hours or days begin."""
    parts, begun_s = [], spell.begun_s
    while begun_s < spell.ended_s:
        begin = _floor(datetime.fromtimestamp(begun_s, UTC), step)
        ended_s = min(spell.ended_s, (begin + step).timestamp())
        part = Spell(spell.container_id, spell.app_id, spell.size, spell.phase, begun_s, ended_s)
        parts.append((part, begin))
        begun_s = ended_s
    return parts
