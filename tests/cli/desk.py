"""What tests of commands that rent share: one user's computer, and a Vast.ai that is none."""

from __future__ import annotations

import asyncio
import io
import json
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.model import LeaseId, Need, Offer
from nightkiln.lease_book import Entry, LeaseBook, Owner
from nightkiln.places import that_bill
from nightkiln.settings import load_settings
from nightkiln.testing.environ import environ
from nightkiln.testing.vast_market.beside import Beside

LEASE = LeaseId("nightly-1-lease-000")
HOUR_S = 3600.0


@dataclass
class Desk:
    """One user's computer with a key for the market."""

    market: Beside
    folder: Path

    @property
    def book(self) -> LeaseBook:
        return LeaseBook(self.folder / "state")

    def variables(self, **more: str) -> dict[str, str]:
        return {
            "NIGHTKILN_VAST_URL": self.market.url,
            "NIGHTKILN_VAST_API_KEY": self.market.key,
            "NIGHTKILN_STATE": str(self.folder / "state"),
            "NIGHTKILN_STORE": str(self.folder / "store"),
            **more,
        }

    def call(self, *arguments: str, **environment: str) -> Result:
        result = CliRunner(env=self.variables(**environment)).invoke(cli.app, list(arguments))
        assert self.market.key not in result.output, "a key is never shown"
        return result

    def ended(self, *arguments: str, **more: str) -> tuple[int, str]:
        """Exit code, and all that is written, of a command as it is started from a shell."""
        said, code = io.StringIO(), 0
        with environ(self.variables(**more)), redirect_stdout(said), redirect_stderr(said):
            try:
                cli.main(arguments)
            except SystemExit as end:
                code = int(end.code) if end.code is not None else 0
        assert self.market.key not in said.getvalue(), "a key is never shown"
        return code, said.getvalue()

    def lines(self, *arguments: str, **environment: str) -> list[dict[str, Any]]:
        output = self.call(*arguments, "--json", **environment).stdout
        return [json.loads(line) for line in output.splitlines()]

    def doctor(self, *arguments: str, **environment: str) -> dict[str, dict[str, Any]]:
        """Its findings by what they are about."""
        return {each["what"]: each for each in self.lines("doctor", *arguments, **environment)}

    def rent(self, lease_id: LeaseId = LEASE, *, fleet: str = "main") -> Entry:
        """As a run does: written down, then rented; nobody has signed for it yet."""
        settings = load_settings(
            vast_api_key=self.market.key,
            vast_url=self.market.url,
            state=str(self.folder / "state"),
            fleet=fleet,
        )

        async def rented() -> Offer:
            [provider] = that_bill(settings).values()
            async with provider:
                [offer] = await provider.offers(Need(), limit=1)
                now_s = time.time()
                entry = Entry(
                    lease_id, "nightly", 1, str(self.folder / "store"), offer, now_s, now_s + HOUR_S
                )
                self.book.intend(entry)
                await provider.rent(offer, lease_id, Need(), expires_at_s=now_s + HOUR_S)
            return offer

        asyncio.run(rented())
        self.book.rented(lease_id, host="a machine")
        found = self.book.entry(lease_id)
        assert found is not None
        return found

    def signed(self, *, ago_s: float = 0.0, has_ended: bool = False) -> None:
        store = str(self.folder / "store")
        self.book.alive(Owner("nightly", 1, store, time.time() - ago_s, has_ended))

    def billed(self) -> list[str]:
        return [str(each["label"]) for each in self.market.machines() if each["is_billed"]]

    def has_credit(self, usd: float) -> None:
        """So much from now on."""
        url = f"{self.market.url}/__sim/credit"
        httpx.post(url, json={"usd": usd}, trust_env=False).raise_for_status()

    def key_with(self, *permissions: str) -> str:
        """A new key of the account that may do no more than this."""
        answer = httpx.post(
            f"{self.market.url}/api/v0/auth/apikeys/",
            json={"name": "narrow", "permissions": {"api": {name: {} for name in permissions}}},
            headers={"authorization": f"Bearer {self.market.key}"},
            trust_env=False,
        )
        answer.raise_for_status()
        return str(answer.json()["key"])
