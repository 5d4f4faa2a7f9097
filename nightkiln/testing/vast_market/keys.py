"""Who calls, and what they may do."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nightkiln.testing.vast_market.exchange import Exchange
from nightkiln.testing.vast_market.replies import Refused

CHILDREN_MAX = 100
PERMISSIONS = frozenset(
    {"misc", "user_read", "user_write", "instance_read", "instance_write", "billing_read"}
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: the account, one of its scoped keys, or a container."""

    name: str
    may: frozenset[str]  # permissions
    contract: int | None = None  # a container may do things to itself only

    def allow(self, permission: str) -> None:
        """Refuse what its key does not allow."""
        if permission not in self.may:
            raise Refused(403, "auth_error", f"API key lacks the permission {permission}")

    def allow_itself(self, numbers: Sequence[int]) -> None:
        """Refuse a container that reaches for another, or for the account."""
        if self.contract is not None and list(numbers) != [self.contract]:
            raise Refused(403, "auth_error", "a container's key is for itself only")


NOBODY = Caller("nobody", frozenset())


@dataclass(slots=True)
class Keys:
    """Every key that opens something."""

    owner: str
    exchange: Exchange
    _children: dict[str, Caller] = field(default_factory=dict)

    def caller(self, header: str | None) -> Caller:
        """Whom the header stands for.

        Raises:
            Refused: nobody.
        """
        key = header.removeprefix("Bearer ").strip() if header is not None else ""
        if hmac.compare_digest(key.encode(), self.owner.encode()):
            return Caller("owner", PERMISSIONS)
        child = self._children.get(key)
        if child is not None:
            return child
        for contract in self.exchange.contracts.values():
            if hmac.compare_digest(key.encode(), contract.key.encode()):
                may = frozenset({"instance_read", "instance_write"})
                return Caller(f"contract-{contract.id}", may, contract.id)
        raise Refused(401, "auth_error", "Invalid user key")

    def create(self, name: str, permissions: Any) -> dict[str, Any]:
        """A scoped key, as the service describes it."""
        asked = permissions.get("api") if isinstance(permissions, Mapping) else None
        if not isinstance(asked, Mapping) or not set(asked) <= PERMISSIONS:
            known = ", ".join(sorted(PERMISSIONS))
            raise Refused(400, "invalid_args", f"permissions want api: {{}} of {known}")
        if len(self._children) >= CHILDREN_MAX:
            raise Refused(400, "invalid_args", "too many keys")
        key, number = secrets.token_hex(32), len(self._children) + 1
        self._children[key] = Caller(f"key-{number}", frozenset(asked))
        return {"id": number, "key": key, "name": name, "permissions": permissions}

    def secrets(self) -> Iterator[str]:
        """All of them, for whoever looks where they have no business to be."""
        yield self.owner
        yield from self._children
        for contract in self.exchange.contracts.values():
            yield contract.key
