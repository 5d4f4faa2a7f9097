"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.terms import AtCap, Fallback, Late, Upload
from nightkiln.testing.market import SHIPPED

CatalogArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CATALOG",
        help="Folder with catalog.yaml, prompts and workflow; `nightkiln init` makes one.",
        show_default=False,
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="STORE",
        # Not in brackets: those are for rich's colours, and would not be shown.
        help="Folder with results, or s3://bucket/prefix. Default: NIGHTKILN_STORE, else "
        "nightkiln-store.",
        show_default=False,
    ),
]
WorkerUrlOption = Annotated[
    list[str] | None,
    typer.Option(
        "--worker-url",
        metavar="URL",
        help="Address of a running ComfyUI; give it again for each further one. "
        "Default: NIGHTKILN_WORKER_URLS, with commas between them.",
        show_default=False,
    ),
]
ProviderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--providers",
        "--provider",
        metavar="NAMES",
        help="Where to render: local, vast, modal, with commas between them. Default: "
        "NIGHTKILN_PROVIDERS, else local if there are workers, and where there is a budget vast if "
        "there is a key, modal if there is a token.",
        show_default=False,
    ),
]
FleetOption = Annotated[
    str | None,
    typer.Option(
        "--fleet",
        metavar="NAME",
        help="Which set-up's machines: the letters and digits that its runs label them with. "
        "Default: NIGHTKILN_FLEET, else main.",
        show_default=False,
    ),
]
CheckoutOption = Annotated[
    Path,
    typer.Option(
        "--checkout",
        metavar="FOLDER",
        help="Folder with prefect.yaml, flows and tasks; the flows run there.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, an object a line.", show_default=False)
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, metavar="ROWS", help="Only the first so many rows."),
]
ByOption = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="WHEN",
        help="Deadline: the next 07:00 in the time zone of the settings, a duration such as 2h or "
        "1h30m, or 2026-12-24T07:00. Default: NIGHTKILN_BY, else none.",
        show_default=False,
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="USD",
        help="Most that this run may spend, such as 4.00; nothing that costs money is used without "
        "it. Default: NIGHTKILN_BUDGET.",
        show_default=False,
    ),
]
FallbackOption = Annotated[
    Fallback | None,
    typer.Option(
        "--fallback",
        metavar="never|auto|only",
        help="Serverless GPUs: never; where they are the better deal or nothing else is in time "
        "(auto, the default); or nothing else.",
        show_default=False,
    ),
]
LateOption = Annotated[
    Late | None,
    typer.Option(
        "--late",
        metavar="stop|finish",
        help="At the deadline: stop and keep what is made (the default), or finish all the same.",
        show_default=False,
    ),
]
AtCapOption = Annotated[
    AtCap | None,
    typer.Option(
        "--at-cap",
        metavar="finish|cancel",
        help="When the budget is spent: finish what is being rendered (the default), or cancel it.",
        show_default=False,
    ),
]
UploadOption = Annotated[
    Upload | None,
    typer.Option(
        "--upload",
        metavar="through|direct",
        help="How results get into a store in S3: through this computer (the default), where every "
        "pixel is looked at, or direct, brought there by rented machines, where that is sampled "
        "(docs/how-to/s3.md). Default: NIGHTKILN_UPLOAD.",
        show_default=False,
    ),
]
SelectOption = Annotated[
    str | None,
    typer.Option(
        "--select",
        metavar="SQL",
        help="Rows by a query instead of the catalog's own, which it calls prompts; it may also "
        "ask the views of the store.",
        show_default=False,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="Name of the batch; the same name resumes it. Default: made from catalog, "
        "selection and store, so that the same command resumes.",
        show_default=False,
    ),
]
ObjectInfoOption = Annotated[
    Path | None,
    typer.Option(
        "--object-info",
        metavar="FILE",
        help="Node definitions to check against, from `object-info save`.",
        show_default=False,
    ),
]
MarketOption = Annotated[
    str | None,
    typer.Option(
        "--market",
        metavar="NAME|FILE",
        help=f"Market that the quote is played in: {', '.join(SHIPPED)}, or a market file. "
        "Default: NIGHTKILN_MARKET, else ordinary.",
        show_default=False,
    ),
]
YesOption = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Do not ask before money is spent; for scripts. A quote above the "
        "budget is refused all the same.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="INPUT=VALUE",
        help="Give an input of the catalog this value in every row, such as steps=8; repeatable.",
    ),
]


def parsed_overrides(texts: list[str] | None) -> dict[str, str]:
    """What ``--set steps=4 --set cfg=7`` says.

    Raises:
        BadInput: one of them is not ``<input>=<value>``.
    """
    parsed: dict[str, str] = {}
    for text in texts if texts is not None else ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadInput([Problem("--set", f"{text!r} has no '='", "write --set steps=4")])
        parsed[name] = value
    return parsed
