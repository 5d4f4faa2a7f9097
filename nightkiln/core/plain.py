"""Plain data as JSON-safe values and back, by the types that dataclasses declare; strict.

A float that JSON has no number for is one of ``NOT_NUMBERS``, a Decimal its digits, a mapping whose
keys are no text a list of pairs. What comes back is equal to what went in.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cache
from math import isfinite
from typing import Any, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

NOT_NUMBERS = frozenset({"nan", "inf", "-inf"})
DIGITS_MAX = 64  # of a Decimal: more is no price
SHOWN_CHARS_MAX = 60  # of a wrong value, in a message

T = TypeVar("T")
_Reader: TypeAlias = Callable[[Any, str], Any]  # a JSON value, and where it was found


def to_json(value: Any) -> Any:
    """``value`` in terms of JSON."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | Decimal):
        return value if isinstance(value, float) and isfinite(value) else str(value)
    if isinstance(value, tuple | list):
        return [to_json(each) for each in value]
    if isinstance(value, Mapping):
        return _mapping_to_json(value)
    return {name: to_json(getattr(value, name)) for name in _names(cast("Hashable", type(value)))}


def _mapping_to_json(value: Mapping[Any, Any]) -> Any:
    if all(isinstance(key, str) for key in value):
        return {key: to_json(each) for key, each in value.items()}
    return [[to_json(key), to_json(each)] for key, each in value.items()]


def from_json(kind: type[T], value: Any, *, where: str) -> T:
    """The ``kind`` that ``to_json`` made ``value`` of.

    Raises:
        ValueError: it is none; the message says where and why.
    """
    return cast("T", _reader(cast("Hashable", kind))(value, where))


@cache
def _names(kind: Hashable) -> tuple[str, ...]:
    assert isinstance(kind, type), "only plain data goes into a story"
    assert is_dataclass(kind), f"{kind} is not plain"
    return tuple(each.name for each in fields(kind))


@cache
def _reader(kind: Any) -> _Reader:
    """What reads values of a type."""
    kind = getattr(kind, "__supertype__", kind)  # a NewType is what it stands for
    simple = {str: _text, bool: _truth, int: _whole, float: _number, Decimal: _decimal}
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _member(kind)
    if is_dataclass(kind):
        return _record(kind)
    origin, inside = get_origin(kind), get_args(kind)
    if origin is types.UnionType and len(inside) == 2 and inside[1] is type(None):  # noqa: PLR2004
        return _optional(_reader(inside[0]))
    if origin is tuple:
        return _row(_reader(inside[0])) if inside[1] is ... else _pair(tuple(map(_reader, inside)))
    assert origin in {dict, Mapping}, f"no plain type: {kind}"
    return _mapping(_reader(inside[0]), _reader(inside[1]))


def _wrong(value: Any, where: str, wanted: str) -> ValueError:
    return ValueError(f"{where}: {repr(value)[:SHOWN_CHARS_MAX]} is not {wanted}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, where, "text")
    return value


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(value, where, "true or false")
    return value


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(value, where, "a whole number")
    return value


def _number(value: Any, where: str) -> float:
    is_named = isinstance(value, str) and value in NOT_NUMBERS
    if isinstance(value, bool) or not (isinstance(value, int | float) or is_named):
        raise _wrong(value, where, "a number")
    try:
        return float(value)
    except OverflowError as error:
        raise _wrong(value, where, "a number that fits") from error


def _decimal(value: Any, where: str) -> Decimal:
    try:
        if isinstance(value, str) and len(value) <= DIGITS_MAX:
            return Decimal(value)
    except InvalidOperation:
        pass  # told below, with everything else that is no amount
    raise _wrong(value, where, "an amount in digits")


def _member(kind: type[Enum]) -> _Reader:
    def read(value: Any, where: str) -> Enum:
        try:
            return kind(value)
        except ValueError as error:
            wanted = ", ".join(str(each.value) for each in kind)
            raise _wrong(value, where, f"one of {wanted}") from error

    return read


def _optional(inner: _Reader) -> _Reader:
    return lambda value, where: None if value is None else inner(value, where)


def _row(inner: _Reader) -> _Reader:
    def read(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong(value, where, "a list")
        return tuple(inner(each, f"{where}[{index}]") for index, each in enumerate(value))

    return read


def _pair(inner: tuple[_Reader, ...]) -> _Reader:
    def read(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(inner):
            raise _wrong(value, where, f"a list of {len(inner)}")
        return tuple(one(each, where) for one, each in zip(inner, value, strict=True))

    return read


def _mapping(key: _Reader, inner: _Reader) -> _Reader:
    pairs = _row(_pair((key, inner)))

    def read(value: Any, where: str) -> dict[Any, Any]:
        if isinstance(value, dict):
            value = list(map(list, value.items()))
        return dict(pairs(value, where))

    return read


def _record(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    needed = {each.name for each in fields(kind) if each.default is each.default_factory is MISSING}

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, where, "an object")
        if strangers := value.keys() - hints.keys():
            raise ValueError(f"{where}: {kind.__name__} has no {', '.join(sorted(strangers))}")
        if missing := needed - value.keys():
            raise ValueError(f"{where}: {', '.join(sorted(missing))} missing")
        found = {
            name: _reader(hints[name])(each, f"{where}.{name}") for name, each in value.items()
        }
        try:
            return kind(**found)
        except AssertionError as error:
            raise ValueError(f"{where}: no such {kind.__name__} can be") from error

    return read
