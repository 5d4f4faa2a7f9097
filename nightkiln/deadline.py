"""``--by``: a time of day, a date with a time, or a duration, as seconds from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nightkiln.core.errors import BadInput, Problem

DEADLINE_S_MAX = 7 * 24 * 3600.0
HOW = "a time of day such as 07:00, a duration such as 2h or 1h30m, or 2026-12-24T07:00"
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_SECONDS = (3600.0, 60.0, 1.0)


def seconds_until(text: str, *, now_s: float, timezone: str) -> float:
    """Seconds from ``now_s`` (epoch) to the deadline that ``text`` names.

    A time of day is the next one, today or tomorrow, by the clock of ``timezone``.

    Raises:
        BadInput: it is none of the three, in the past, or too far off.
    """
    deadline_s = _duration_s(text)
    if deadline_s is None:
        now = datetime.fromtimestamp(now_s, zone(timezone))
        deadline_s = _moment(text, now).timestamp() - now_s
    if deadline_s <= 0:
        raise BadInput([Problem(f"--by {text}", "is not in the future", HOW)])
    if deadline_s > DEADLINE_S_MAX:
        what = f"is more than {DEADLINE_S_MAX / 86400:g} days away"
        raise BadInput([Problem(f"--by {text}", what, HOW)])
    return deadline_s


def _duration_s(text: str) -> float | None:
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None
    parts = zip(found.groups(), _SECONDS, strict=True)
    return sum(float(number) * seconds for number, seconds in parts if number is not None)


def _moment(text: str, now: datetime) -> datetime:
    try:
        of_day = time.fromisoformat(text.strip())
    except ValueError:
        return _date_and_time(text, now)
    zone = of_day.tzinfo if of_day.tzinfo is not None else now.tzinfo
    today = now.astimezone(zone).date()
    moments = (
        datetime.combine(today + timedelta(days=days), of_day.replace(tzinfo=zone))
        for days in range(2)
    )
    return next(moment for moment in moments if moment > now)  # one of two days always is


def _date_and_time(text: str, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadInput([Problem(f"--by {text}", "is no time", HOW)]) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=now.tzinfo)


def shown_zone(name: str) -> tzinfo:
    """Where times are shown: the zone of that name, or UTC if it is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def zone(name: str) -> ZoneInfo:
    """The time zone of this name.

    Raises:
        BadInput: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        fix = "such as UTC or Europe/Berlin"
        raise BadInput([Problem("timezone", f"{name!r} is no time zone", fix)]) from error
