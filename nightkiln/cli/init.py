"""``nightkiln init``: a catalog out of a workflow and a list of prompts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml
from rich.console import Console

from nightkiln.catalog.catalog import CATALOG_FILE
from nightkiln.catalog.proposal import Proposed, models, propose
from nightkiln.catalog.rows import gist, parquet_files
from nightkiln.catalog.schema import NAME_LENGTH_MAX
from nightkiln.cli.check import BAD_INPUT, Report, as_object, examine, show
from nightkiln.cli.options import JsonOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.graph import WORKFLOW_BYTES_MAX
from nightkiln.core.model import Graph
from nightkiln.core.specs import Definitions
from nightkiln.core.workflow import parse
from nightkiln.nodes import stock_definitions
from nightkiln.temporary import temporary_folder

PROMPTS_FILE, WORKFLOW_FILE = "prompts.parquet", "workflow.json"
LINES_PER_BATCH = 10_000
LINE_LENGTH_MAX = 2**20  # bytes of one prompt
WIDE = 10**6  # letters: never fold a line
COMFYUI = "0.3.75"  # what the shipped definitions are of


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to make; its name is the catalog's.")
    ],
    *,
    workflow: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="As ComfyUI writes it with Workflow > Export (API).",
            show_default=False,
        ),
    ],
    prompts: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="CSV, TSV, JSON, JSONL or Parquet with a column of prompts, or text with a "
            "prompt a line.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a catalog from a workflow and a list of prompts, and check it.

    Finds out what goes where: the prompt to the text that the sampler is led by, the seed to the
    sampler, columns to inputs of the same name. Other columns stay with the results. What it found
    out stands in DIR/catalog.yaml, to be corrected there. Nothing that is there already is
    overwritten.

    Example: nightkiln init foxes --workflow fox.json --prompts foxes.csv

    Exit codes: 0 made and good, 2 made but to be mended, or nothing made; it says which.
    """
    _refuse_to_overwrite(folder)
    graph = _workflow(workflow)
    definitions = Definitions(stock_definitions(), "the stock nodes", is_stock=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made aside and moved at the end: a failure leaves nothing half made behind.
    with temporary_folder(folder.parent, prefix=".nightkiln-init-") as made:
        columns = _convert(prompts, made / PROMPTS_FILE)
        shutil.copyfile(workflow, made / WORKFLOW_FILE)
        proposed = propose(graph, columns, definitions)
        if not proposed:
            fix = "write catalog.yaml by hand: nightkiln schema catalog, catalogs/demo"
            raise BadInput([Problem(str(workflow), "has nothing that rows could fill", fix)])
        others = [name for name in columns if name not in {one.name for one in proposed}]
        text = catalog_text(_name(folder), proposed, models(graph, definitions), others)
        (made / CATALOG_FILE).write_text(text, encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for name in (PROMPTS_FILE, WORKFLOW_FILE, CATALOG_FILE):
            (made / name).rename(folder / name)
    _tell(folder, examine(folder), proposed, as_json=as_json)


def _tell(folder: Path, report: Report, proposed: Sequence[Proposed], *, as_json: bool) -> None:
    if as_json:
        found = {"folder": str(folder), "inputs": [one.name for one in proposed]}
        typer.echo(json.dumps({**found, **as_object(report)}))
        raise typer.Exit(BAD_INPUT if report.problems else 0)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"made {folder / CATALOG_FILE}, {PROMPTS_FILE} and {WORKFLOW_FILE}", markup=False)
    show(report, folder)
    if report.problems:
        console.print(
            f"\nmend {folder / CATALOG_FILE}, then: nightkiln check {folder}", markup=False
        )
        raise typer.Exit(BAD_INPUT)
    run = f"nightkiln run {folder} --worker-url http://127.0.0.1:8188 --store results"
    console.print(f"\nnext: {run}", markup=False)


def _refuse_to_overwrite(folder: Path) -> None:
    there = [
        Problem(str(folder / name), "is there already", "choose another folder, or move it away")
        for name in (CATALOG_FILE, PROMPTS_FILE, WORKFLOW_FILE)
        if (folder / name).exists()
    ]
    if there:
        raise BadInput(there)


def _workflow(path: Path) -> Graph:
    try:
        if path.stat().st_size > WORKFLOW_BYTES_MAX:
            raise BadInput([Problem(str(path), "is too large for a workflow")])
        return parse(path.read_text(encoding="utf-8"), where=str(path))
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise BadInput([Problem(str(path), what, "give the exported workflow")]) from error
    except UnicodeDecodeError as error:
        raise BadInput([Problem(str(path), "is not UTF-8 text")]) from error


def _convert(source: Path, target: Path) -> dict[str, str]:
    """Write the prompts as Parquet; the columns and their types."""
    suffix = source.suffix.lower()
    try:
        with duckdb.connect() as con:
            con.execute("SET enable_progress_bar = false")
            if suffix == ".parquet":
                [path] = parquet_files(source.parent, source.name)
                shutil.copyfile(path, target)
            elif suffix in {".csv", ".tsv"}:
                con.read_csv(str(source)).write_parquet(str(target), compression="zstd")
            elif suffix in {".json", ".jsonl", ".ndjson"}:
                con.read_json(str(source)).write_parquet(str(target), compression="zstd")
            elif suffix in {".txt", ""}:
                _write_lines(source, target)
            else:
                fix = "give .csv, .tsv, .jsonl, .json, .parquet or .txt"
                raise BadInput(
                    [Problem(str(source), f"{suffix} holds no prompts that I can read", fix)]
                )
            columns = con.read_parquet(str(target))
            return dict(zip(columns.columns, map(str, columns.types), strict=True))
    except (duckdb.Error, OSError, UnicodeDecodeError) as error:
        what = f"cannot be read: {gist(error)}"
        raise BadInput([Problem(str(source), what, "see that it is UTF-8 and whole")]) from error


def _write_lines(source: Path, target: Path) -> None:
    """A prompt a line; blank lines are none."""
    schema = pa.schema([("prompt", pa.string())])
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in _lines(source):
            writer.write_table(pa.table({"prompt": batch}, schema=schema))


def _lines(source: Path) -> Iterator[list[str]]:
    batch: list[str] = []
    with source.open(encoding="utf-8-sig") as file:
        while line := file.readline(LINE_LENGTH_MAX):
            if line.strip():
                batch.append(line.strip())
            if len(batch) == LINES_PER_BATCH:
                yield batch
                batch = []
    yield batch


def _name(folder: Path) -> str:
    """The folder's name, as a catalog may be called."""
    words = re.sub(r"[^a-z0-9_-]+", "-", folder.absolute().name.lower()).strip("-_")
    return words[:NAME_LENGTH_MAX] or "catalog"


def catalog_text(
    name: str, proposed: Sequence[Proposed], model_files: Sequence[str], others: Sequence[str]
) -> str:
    """The words of a catalog.yaml, with comments for whoever changes it."""
    kept = f"; kept with the results: {', '.join(others)}" if others else ""
    lines = [
        f"name: {name}",
        _comment(f'prompts: {PROMPTS_FILE} # or a glob, s3://..., {{sql: "SELECT ..."}}{kept}'),
        f"workflow: {WORKFLOW_FILE} # ComfyUI > Workflow > Export (API)",
        "",
        'inputs: # column or constant -> "<node>.<input>"; a node is its title, class or id',
        *(f"  {_entry(one)}" for one in proposed),
        "",
        "variants: {seeds: 1} # images per row",
        "needs: {vram_gb: 0, disk_gb: auto, gpus: any, trust: any} # of a rented machine",
        "",
        "environment:",
        f'  comfyui: "{COMFYUI}"',
        "  custom_nodes: [] # {repo: ..., ref: ...}",
    ]
    if model_files:
        lines.append("  models: # add url and sha256, and rented machines can fetch them")
        lines += [f"    - path: {_scalar(path)}" for path in model_files]
    else:
        lines.append("  models: [] # {path: checkpoints/x.safetensors, url: ..., sha256: ...}")
    lines += [
        "",
        "reuse: store # never: render again what another batch has rendered",
        "verify: {blank: fault, decode: all} # an image of one colour is a failure",
    ]
    return "\n".join(lines) + "\n"


def _entry(one: Proposed) -> str:
    to = _scalar(one.to[0]) if len(one.to) == 1 else f"[{', '.join(map(_scalar, one.to))}]"
    parts = [f"to: {to}"]
    if one.is_file:
        parts.append("kind: file")
    if one.default is not None:
        parts.append(f"default: {_scalar(one.default)}")
    short = to if len(parts) == 1 and len(one.to) == 1 else f"{{{', '.join(parts)}}}"
    key = one.name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", one.name) else _scalar(one.name)
    return f"{key}: {short}" + (f" # {one.why}" if one.why else "")


def _scalar(value: Any) -> str:
    """A value as YAML that may stand anywhere."""
    if value in {"derived", "derived_per_batch"}:
        return str(value)
    style = '"' if isinstance(value, str) else None
    text: str = yaml.safe_dump(
        [value], default_flow_style=True, default_style=style, allow_unicode=True, width=WIDE
    )
    return text.strip().removeprefix("[").removesuffix("]")


def _comment(text: str) -> str:
    """What may stand behind a #."""
    return "".join(letter for letter in text if letter.isprintable())
