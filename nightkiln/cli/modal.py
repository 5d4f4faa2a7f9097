"""``nightkiln modal``: the app that renders on Modal, deployed, looked at, taken back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from nightkiln.catalog import Catalog, load_catalog
from nightkiln.cli.options import CatalogArgument, JsonOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.deployment import SeenApp, app_there, seen_app
from nightkiln.night import ALL_DONE, SOME_FAILED, STOPPED_EARLY
from nightkiln.places import GET_TOKENS, goods_of, modal_terms, modal_token
from nightkiln.settings import Settings, load_settings

_STANDING = {True: ALL_DONE, False: SOME_FAILED, None: STOPPED_EARLY}  # whether it is there

app = typer.Typer(no_args_is_help=True, help="The app that renders on Modal.")


@app.callback()
def _modal() -> None:
    """The app that renders on Modal."""


@app.command("deploy")
def deploy(
    catalog: CatalogArgument,
    *,
    models: Annotated[
        bool,
        typer.Option(
            "--models/--no-models",
            help="Have the app download the catalog's models into its volume, each checked.",
        ),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Build and deploy the app for a catalog's environment; the first time takes minutes.

    ComfyUI's version, custom nodes and models are the catalog's. Nothing renders and nothing keeps
    running: containers start with the first job. The deploy is tagged with the git commit of the
    catalog's folder and the digest of its environment, and both are in every result. A run refuses
    an app that was built for another environment. docs/how-to/modal.md says what it costs.

    Example: nightkiln modal deploy catalogs/parti

    Exit codes: 0 deployed, 2 the environment cannot be built, or there is no token, 3 Modal did not
    take it; what it said is above.
    """
    from nightkiln.providers.modal.deploying import MODULE, commit_of, deploy_of, modal_command

    settings, loaded = load_settings(), load_catalog(catalog)
    token, terms = _token(settings), modal_terms(settings)
    wanted = deploy_of(loaded.environment, terms, commit=commit_of(loaded.folder))
    addresses = _addresses(settings, loaded) if models else []
    words = ["deploy", "-m", MODULE, "--name", terms.app, "--tag", wanted.tag]
    words += ["--env", terms.environment_name] if terms.environment_name else []
    done = modal_command(words, token=token, plan=wanted.plan, is_quiet=as_json)
    if done.returncode != 0:
        typer.echo("modal deploy failed; what it said is above", err=True)
        raise typer.Exit(STOPPED_EARLY)
    fetched = _fetch(settings, addresses) if addresses else []
    seen = asyncio.run(seen_app(settings, digest=loaded.environment.digest))
    _say_deployed(seen, wanted.tag, fetched, as_json=as_json)
    raise typer.Exit(STOPPED_EARLY if seen.problem is not None else ALL_DONE)


def _say_deployed(seen: SeenApp, tag: str, fetched: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        told = {**seen.as_object(), "tag": tag, "models_fetched": list(fetched)}
        typer.echo(json.dumps({"event": "deployed", **told}))
    else:
        typer.echo(f"deployed as {tag}, {len(fetched)} models downloaded")
        typer.echo(seen.line())


@app.command("status")
def status(
    catalog: Annotated[
        Path | None,
        typer.Argument(metavar="CATALOG", help="Whether the app is for this one."),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what is deployed, for which environment, and what a container costs; starts none.

    Example: nightkiln modal status catalogs/parti

    Exit codes: 0 it is there (and for CATALOG), 1 it is not, or for another environment, 2 there is
    no token, 3 Modal did not answer.
    """
    settings = load_settings()
    _token(settings)
    if catalog is None:
        said, is_there = asyncio.run(app_there(settings))
        typer.echo(json.dumps({"app": settings.modal_app, "told": said}) if as_json else said)
        raise typer.Exit(_STANDING[is_there])
    seen = asyncio.run(seen_app(settings, digest=load_catalog(catalog).environment.digest))
    typer.echo(json.dumps(seen.as_object()) if as_json else seen.line())
    if seen.problem is None:
        raise typer.Exit(ALL_DONE)
    raise typer.Exit(SOME_FAILED if seen.is_missing else STOPPED_EARLY)


@app.command("rollback")
def rollback(
    version: Annotated[
        int | None,
        typer.Argument(min=1, metavar="VERSION", help="To which; else to the one before."),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Make an earlier deploy the live one again; its image and its environment come back with it.

    Running calls are not touched. `modal app history` lists the versions.

    Example: nightkiln modal rollback

    Exit codes: 0 done, 2 there is no token, 3 Modal did not do it.
    """
    from nightkiln.providers.modal.deploying import modal_command

    settings = load_settings()
    token, terms = _token(settings), modal_terms(settings)
    words = ["app", "rollback", terms.app, *([f"v{version}"] if version is not None else [])]
    words += ["--env", terms.environment_name] if terms.environment_name else []
    done = modal_command(words, token=token, is_quiet=as_json)
    if as_json:
        told = {"event": "rolled_back", "app": terms.app, "is_done": done.returncode == 0}
        typer.echo(json.dumps(told))
    raise typer.Exit(ALL_DONE if done.returncode == 0 else STOPPED_EARLY)


def _token(settings: Settings) -> tuple[str, str]:
    if not settings.has_modal:
        raise BadInput([Problem("modal", "there is no token", GET_TOKENS)])
    return modal_token(settings)


def _addresses(settings: Settings, catalog: Catalog) -> Sequence[Mapping[str, Any]]:
    """Where each model is to be had now; tokens stay here and sign addresses."""
    from nightkiln.machine.signed import Refused, signed_addresses

    goods = goods_of(settings, catalog)
    try:
        signed = asyncio.run(signed_addresses(goods, goods.models))
    except Refused as error:
        raise BadInput([Problem("environment.models", str(error))]) from error
    return [
        {
            "path": model.path,
            "sha256": model.sha256,
            "url": model.url,
            "address": signed[model.path][0],
        }
        for model in goods.models
    ]


def _fetch(settings: Settings, models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Have the app bring them into its volume."""
    from nightkiln.providers.modal.service import ModalService

    async def fetch() -> list[str]:
        service = ModalService(*modal_token(settings), modal_terms(settings))
        try:
            return await service.download(models)
        finally:
            await service.close()

    return asyncio.run(fetch())
