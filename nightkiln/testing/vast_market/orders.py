"""What a create may ask for: the service's rules, checked before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightkiln.testing.vast_market.contract import PORT_FLAG, Order
from nightkiln.testing.vast_market.replies import Refused

IMAGE_CHARS_MAX = 1_024
LABEL_CHARS_MAX = 256
ENV_CHARS_MAX = 32_768
SCRIPT_CHARS_MAX = 4_096  # args and onstart together
DISK_GB_MIN, DISK_GB_DEFAULT = 8.0, 10.0
PORTS_MAX = 64
USD_PER_HOUR_MIN, USD_PER_HOUR_MAX = 0.001, 128.0
RUNTYPE_DEFAULT = "ssh"


def order_of(body: Mapping[str, Any]) -> Order:
    """The order in a create's body.

    Raises:
        Refused: the service would not take it.
    """
    onstart, label = _text(body, "onstart"), body.get("label")
    if len(onstart) + len(str(body.get("args") or "")) > SCRIPT_CHARS_MAX:
        raise _invalid(f"args and onstart are longer than {SCRIPT_CHARS_MAX} characters")
    return Order(
        image=_image(body),
        disk_gb=_number(body, "disk", DISK_GB_DEFAULT, least=DISK_GB_MIN),
        label=checked_label(label),
        env=_environment(body.get("env")),
        onstart=onstart,
        runtype=str(body.get("runtype") or RUNTYPE_DEFAULT),
        price=_price(body),
    )


def checked_label(label: Any) -> str | None:
    """A label that is not too long."""
    if label is not None and (not isinstance(label, str) or len(label) > LABEL_CHARS_MAX):
        raise Refused(400, "label_too_long", f"at most {LABEL_CHARS_MAX} characters")
    return label


def checked_price(price: Any) -> float:
    """A price within what the service takes."""
    is_number = isinstance(price, int | float) and not isinstance(price, bool)
    if not is_number or not USD_PER_HOUR_MIN <= price <= USD_PER_HOUR_MAX:
        bounds = f"{USD_PER_HOUR_MIN} to {USD_PER_HOUR_MAX}"
        raise Refused(400, "invalid_price", f"price wants {bounds} dollars per hour")
    return float(price)


def _price(body: Mapping[str, Any]) -> float | None:
    price = body.get("price")
    return None if price is None else checked_price(price)


def _image(body: Mapping[str, Any]) -> str:
    image = _text(body, "image")
    if not 0 < len(image) <= IMAGE_CHARS_MAX:
        raise _invalid(f"image wants 1 to {IMAGE_CHARS_MAX} characters")
    return image


def _environment(env: Any) -> Mapping[str, str]:
    if env is None:
        return {}
    if not isinstance(env, dict) or not all(isinstance(one, str) for one in env.values()):
        raise _invalid("env must be a dict")
    if sum(len(name) + len(value) for name, value in env.items()) > ENV_CHARS_MAX:
        raise _invalid(f"env is longer than {ENV_CHARS_MAX} characters")
    if sum(name.startswith(PORT_FLAG) for name in env) > PORTS_MAX:
        raise _invalid(f"at most {PORTS_MAX} ports")
    return env


def _number(body: Mapping[str, Any], name: str, default: float, *, least: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or value < least:
        raise _invalid(f"{name} wants at least {least:g}")
    return float(value)


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _invalid(f"{name} wants a text")
    return value if value is not None else ""


def _invalid(message: str) -> Refused:
    return Refused(400, "invalid_args", message)
