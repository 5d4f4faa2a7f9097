"""A store in a bucket is asked, rendered from, compacted and taken away as a folder is."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nightkiln import cli
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.testing.samples import write_catalog

pytestmark = pytest.mark.s3

CATALOGS = Path(__file__).parents[2] / "catalogs"
JOBS = 4


@dataclass(frozen=True)
class Desk:
    """Somebody with a catalog, a worker, and a bucket."""

    catalog: Path
    folder: Path
    store: str
    worker: str
    environment: dict[str, str]

    def call(self, *arguments: str) -> list[dict[str, Any]]:
        """A command's lines of JSON; it has to end well."""
        words = [*arguments, "--store", self.store, "--json"]
        result = CliRunner().invoke(cli.app, words, env=self.environment)
        assert result.exit_code == 0, (result.output, result.exception)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def render(self, command: str, catalog: Path, *more: str) -> dict[str, Any]:
        """What came of a run or a retry."""
        return self.call(command, str(catalog), "--worker-url", self.worker, *more)[-1]

    def ask(self, sql: str) -> list[dict[str, Any]]:
        return self.call("query", sql)


@pytest.fixture
def desk(s3: S3Server, tmp_path: Path) -> Iterator[Desk]:
    """After a night of four pictures."""
    store = f"s3://{BUCKET}/asking/{uuid.uuid4().hex}"
    environment = {**s3.environment, "NIGHTKILN_STATE": str(tmp_path / "state")}
    with stand_in_process() as worker:
        catalog = write_catalog(tmp_path / "catalog", JOBS)
        made = Desk(catalog, tmp_path, store, worker.url, environment)
        assert made.render("run", catalog, "--name", "night")["done"] == JOBS
        yield made


def test_pictures_in_a_bucket_are_chosen_by_a_query_and_made_larger(desk: Desk) -> None:
    chosen = "FROM prompts WHERE from_job IN (SELECT job_id FROM jobs WHERE row < 2)"

    made = desk.render("run", CATALOGS / "upscale", "--set", "steps=1", "--select", chosen)

    assert (made["total"], made["done"]) == (2, 2)
    asked = "select image, from_batch from jobs where catalog = 'upscale' order by 1"
    pictures = "select sha256 as image, 'night' as from_batch from jobs where batch = 'night'"
    found = desk.ask(asked)
    assert len(found) == 2
    assert all(row in desk.ask(pictures) for row in found)


def test_jobs_in_a_bucket_are_rendered_again(desk: Desk) -> None:
    more = ("--name", "night", "--where", "row = 1")

    again = desk.render("retry", desk.catalog, *more, "--force")
    reseeded = desk.render("retry", desk.catalog, *more, "--reseed")

    assert (again["outputs"], reseeded["done"]) == (1, 1)
    jobs = "select count(*) as jobs, count(distinct job_id) as ids from jobs where batch = 'night'"
    assert desk.ask(jobs) == [{"jobs": JOBS, "ids": JOBS}]


def test_a_bucket_gives_the_same_files_before_and_after_it_was_compacted(desk: Desk) -> None:
    form = ("--format", "files", "--name", "{row:02}")

    desk.call("export", *form, "--to", str(desk.folder / "before"))
    answers = [desk.ask(f"from {view} order by all") for view in ("cost_per_1000", "slowest")]
    desk.call("store", "compact", "--grace-hours", "0")
    desk.call("export", *form, "--to", str(desk.folder / "after"))

    assert [desk.ask(f"from {view} order by all") for view in ("cost_per_1000", "slowest")] == (
        answers
    )
    assert desk.call("store", "verify")[-1]["problems"] == 0
    assert _digests(desk.folder / "before") == _digests(desk.folder / "after")
    assert len(list((desk.folder / "after").glob("*.png"))) == JOBS


def _digests(folder: Path) -> dict[str, str]:
    """Of what was exported; how its rows lay in the store may show in ``commit_key`` alone."""
    found = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
