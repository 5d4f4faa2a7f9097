"""``nightkiln store``: keep a store fast to ask, and see that everything is there."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.cli.progress import Counter, megabytes
from nightkiln.core.errors import BadInput, Problem
from nightkiln.night import ALL_DONE, SOME_FAILED
from nightkiln.settings import load_settings
from nightkiln.store import collecting, compacting, folding, verifying
from nightkiln.store import stats as counting
from nightkiln.wiring import open_store

SHOWN_MAX = 20  # findings and orphans that people are shown; --json gives all
DAY_S = 24 * 3600.0

app = typer.Typer(
    no_args_is_help=True, help="Keep a store fast to ask, and see that everything is there."
)


@app.callback()
def _store() -> None:
    """Keep a store fast to ask, and see that everything is there."""


@app.command("compact")
def compact(
    *,
    store: StoreOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    grace_hours: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="HOURS",
            help="Remove what was replaced once the new views have been there for so long: for "
            "queries that run, and for whoever has older views open.",
        ),
    ] = compacting.GRACE_S / 3600,
    as_json: JsonOption = False,
) -> None:
    """Fold the many small files of finished nights into few large ones; asking is faster then.

    Answers do not change, also while it runs, while batches run, and if it is killed: the next one
    goes on. A store with a schema of before comes out with that of today. What was replaced is
    removed by a later compaction, a day after the new views were written.

    Example: nightkiln store compact --store results

    Exit codes: 0 done, or nothing to do, 3 the store cannot be read or written; it is as before.
    """
    opened = open_store(load_settings(store=store))
    if dry_run:
        wanted = folding.folding(opened)
        told = {
            "shards": len(wanted.shards),
            "compact_files_written_again": len(wanted.again),
            "days": len(wanted.days),
            "bytes": wanted.bytes,
            "rows_lost": wanted.rows_lost,
        }
        said = f"{_many(len(wanted.shards), 'small file')} of {_many(len(wanted.days), 'day')}, "
        _say(
            "would_compact",
            told,
            said + f"{megabytes(wanted.bytes)}, would be folded",
            as_json=as_json,
        )
        return
    counter = Counter(as_json=as_json)
    done = compacting.compact(
        opened,
        now_s=opened.now_s(),
        grace_s=grace_hours * 3600,
        tell=lambda read, total: counter.tell("bytes read", read, total),
    )
    counter.end()
    _say("compacted", asdict(done), _said_compacted(done), as_json=as_json)


def _said_compacted(done: compacting.Compacted) -> str:
    removed = f"; {_many(done.removed, 'replaced file')} removed" if done.removed else ""
    if done.was_late:
        return "another compaction was faster; this one has changed nothing" + removed
    if not done.shards:
        return "nothing to compact" + removed
    return (
        f"{_many(done.shards, 'small file')} folded into {done.files}, {done.rows} rows, "
        f"{megabytes(done.bytes_read)} -> {megabytes(done.bytes_written)}" + removed
    )


@app.command("verify")
def verify(
    *,
    store: StoreOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at sizes only; read no image.")
    ] = False,
    jobs: Annotated[
        Path | None,
        typer.Option(
            "--jobs",
            metavar="FILE",
            help="Write the ids of jobs whose files are missing or damaged, one a line.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold every row against its files, their sizes and SHA-256, and every file against the rows.

    Files that a run may still commit are no problem: those of batches that are worked on, or whose
    last run died. For every kind of problem it says what repairs it; it changes nothing itself.

    Example: nightkiln store verify --store results

    Exit codes: 0 all is well, 1 there are problems, 3 the store cannot be read.
    """
    opened = open_store(load_settings(store=store))
    counter = Counter(as_json=as_json)
    found = verifying.verify(opened, is_quick=quick, tell=counter.tell)
    counter.end()
    if jobs is not None:
        _write_jobs(jobs, found)
    told = {
        "problems": found.problems,
        "rows": found.rows,
        "files": found.files,
        "files_read": found.checked,
        "bytes_read": found.bytes,
        "files_adoptable": found.adoptable,
    }
    if as_json:
        for finding in found.findings:
            typer.echo(json.dumps({"event": "problem", **asdict(finding)}))
        repairs = [
            {"kind": kind, "count": count, "repair": verifying.REPAIR[kind]}
            for kind, count in sorted(found.counts.items())
        ]
        typer.echo(json.dumps({"event": "verified", **told, "repairs": repairs}))
    else:
        _show_verified(found)
    raise typer.Exit(SOME_FAILED if found.problems else ALL_DONE)


def _write_jobs(path: Path, found: verifying.Verified) -> None:
    ids = dict.fromkeys(one.job_id for one in found.findings if one.job_id is not None)
    try:
        path.write_text("".join(f"{job_id}\n" for job_id in ids), encoding="utf-8")
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise BadInput([Problem(str(path), what, "name a file in a folder of yours")]) from error


def _show_verified(found: verifying.Verified) -> None:
    console = Console(highlight=False)
    for one in found.findings[:SHOWN_MAX]:
        console.print(Text(f"{one.kind}: {one.key}: {one.what}", style="red"))
    if found.problems > SHOWN_MAX:
        console.print(f"... and {found.problems - SHOWN_MAX} more; --json gives them")
    for kind, count in sorted(found.counts.items()):
        console.print(Text(f"{count} {kind}: {verifying.REPAIR[kind]}"))
    read = f"{found.checked} read ({megabytes(found.bytes)})" if found.checked else "none read"
    adoptable = f", {found.adoptable} that a run may still commit" if found.adoptable else ""
    console.print(f"{found.rows} results, {_many(found.files, 'file')}, {read}{adoptable}")
    console.print(f"problems: {found.problems}")


@app.command("gc")
def gc(
    *,
    store: StoreOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do it. Without it, only what would be done.")
    ] = False,
    older_than_days: Annotated[
        float,
        typer.Option(
            min=collecting.OLDER_THAN_S_MIN / DAY_S,
            metavar="DAYS",
            help="Leave alone what was written in the last so many days.",
        ),
    ] = collecting.OLDER_THAN_S / DAY_S,
    as_json: JsonOption = False,
) -> None:
    """Remove files that belong to nobody: of renders that lost, of runs that were killed.

    Files of batches that are worked on, or whose last run died, are never touched: the next run may
    still commit them. Without --yes it only shows what it would do.

    Example: nightkiln store gc --store results

    Exit codes: 0 nothing is left that belongs to nobody, 1 there is (a dry run shows it, or a batch
    was in use), 3 the store cannot be read or written, or rows are damaged.
    """
    opened = open_store(load_settings(store=store))
    counter = Counter(as_json=as_json)
    found = collecting.collectable(
        opened,
        older_than_s=older_than_days * DAY_S,
        now_s=opened.now_s() if yes else time.time(),  # looking alone writes nothing
        tell=counter.tell,
    )
    counter.end()
    orphans = found.all
    size = sum(one.bytes for one in orphans)
    kept = {"young": found.young, "adoptable": sum(found.kept.values())}
    if not yes:
        _show_orphans(orphans, as_json=as_json)
        said = f"{_many(len(orphans), 'file')}, {megabytes(size)}, would be removed; --yes does it"
        if not orphans:
            said = "nothing to remove"
        told = {"files": len(orphans), "bytes": size, **kept}
        _say("would_remove", told, said + _kept_said(found), as_json=as_json)
        raise typer.Exit(SOME_FAILED if orphans else ALL_DONE)
    done = collecting.collect(opened, found, clock=time.time, tell=counter.tell)
    counter.end()
    said = f"{_many(done.files, 'file')}, {megabytes(done.bytes)}, removed" + _kept_said(found)
    said += "".join(f"\nleft alone: {batch}: {why}" for batch, why in done.skipped.items())
    _say("removed", {**asdict(done), **kept}, said, as_json=as_json)
    raise typer.Exit(SOME_FAILED if done.skipped else ALL_DONE)


def _show_orphans(orphans: list[collecting.Orphan], *, as_json: bool) -> None:
    for one in orphans if as_json else orphans[:SHOWN_MAX]:
        typer.echo(json.dumps({"event": "orphan", **asdict(one)}) if as_json else one.key)
    if not as_json and len(orphans) > SHOWN_MAX:
        typer.echo(f"... and {len(orphans) - SHOWN_MAX} more; --json gives them")


def _kept_said(found: collecting.Collectable) -> str:
    parts = [f"{found.young} not old enough"] if found.young else []
    parts += [f"{n} of {batch!r} may still be committed" for batch, n in sorted(found.kept.items())]
    return f" ({'; '.join(parts)})" if parts else ""


@app.command("stats")
def stats(*, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Say how large a store is, and how its rows lie.

    Example: nightkiln store stats --store results

    Exit codes: 0 counted, 3 the store cannot be read.
    """
    found = asdict(counting.stats(open_store(load_settings(store=store))))
    if as_json:
        typer.echo(json.dumps({"event": "stats", **found}))
        return
    table = Table("what", "how many", show_edge=False)
    for name, value in found.items():
        is_size = name.endswith("_bytes")
        shown = megabytes(value) if is_size else f"{value:.6f}" if name == "usd" else str(value)
        table.add_row(name.removesuffix("_bytes").replace("_", " "), shown)
    Console().print(table)


def _say(event: str, told: Mapping[str, object], said: str, *, as_json: bool) -> None:
    typer.echo(json.dumps({"event": event, **told}) if as_json else said)


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
