"""``nightkiln receipt`` asked about a small night."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.errors import BadInput
from nightkiln.observers import Several
from nightkiln.settings import Settings
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog, run_batch


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a batch of two jobs."""
    folder = tmp_path_factory.mktemp("night")

    async def night() -> None:
        catalog = chosen_catalog(write_catalog(folder / "catalog", 2))
        async with StandIn() as server:
            settings = Settings(store=str(folder / "store"), worker_urls=(server.url,))
            await run_batch(Request(catalog, name="night-1"), settings, Several(()))

    asyncio.run(night())
    return str(folder / "store")


def asked(store: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["receipt", *arguments, "--store", store])


def test_a_receipt_is_a_page_for_people(store: str) -> None:
    said = asked(store, "night").stdout

    assert "night-1" in said
    assert "2 of 2 jobs done, for 0.00 USD" in said
    assert "Against quote, budget and deadline" in said


def test_markdown_is_the_page_itself(store: str) -> None:
    said = asked(store, "night-1", "--markdown").stdout

    assert said.startswith("# night-1\n\n**2 of 2 jobs done, for 0.00 USD**\n\n|  |  |\n")
    assert f"`nightkiln why night-1 --store {store}`" in said


def test_json_is_one_object_with_units_in_its_names(store: str) -> None:
    said = json.loads(asked(store, "night", "--json").stdout)

    assert (said["batch"], said["jobs"], said["done"], said["usd"]) == ("night-1", 2, 2, 0.0)
    [paid], [run] = said["paid"], said["runs"]
    assert (paid["provider"], paid["jobs"], paid["usd_billed"]) == ("local", 2, None)
    assert run["ended_s"] > run["started_s"]


def test_one_asks_for_a_page_or_for_an_object(store: str) -> None:
    result = asked(store, "night", "--json", "--markdown")

    assert isinstance(result.exception, BadInput)


def test_a_batch_that_is_not_there_is_bad_input(store: str) -> None:
    result = asked(store, "day")

    assert isinstance(result.exception, BadInput)
    assert "the store has no such batch" in str(result.exception)
