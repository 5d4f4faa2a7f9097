"""What goes over the wire for a batch: billed by the GB on many rented machines, and waited for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from nightkiln.catalog import Catalog
from nightkiln.catalog.catalog import ModelFile
from nightkiln.core.terms import Load
from nightkiln.priors import shipped_traffic
from nightkiln.store.store import Store

BYTES_PER_GB = 1e9
CHECKPOINT_FOLDERS = frozenset({"checkpoints", "diffusion_models", "unet"})
RESULTS_READ_MAX = 10_000  # jobs of this workflow whose size is looked up
PRIOR_JOBS = 10.0  # that the prior of a result's size is worth


def expected_load(catalog: Catalog, store: Store | None, *, image_gb: float | None) -> Load:
    """What one machine downloads, and sends back per job. Blocking.

    Each figure from the first who knows: settings (``image_gb``), catalog (models) and store (what
    this workflow made before), else the dated file of priors. A machine that has the image already
    downloads less: this is what it may come to.
    """
    priors = shipped_traffic()
    return Load(
        image_gb=image_gb if image_gb is not None else priors["image_gb"],
        models_gb=models_gb(catalog),
        result_gb=_result_gb(catalog, store, priors["result_gb"]),
    )


def models_gb(catalog: Catalog) -> float:
    """What all models of a catalog come to; of one whose size nobody says, a usual one."""
    priors = shipped_traffic()
    return sum(_model_gb(model, priors) for model in catalog.environment.models)


def sent_gb(catalog: Catalog) -> float:
    """Of these, what this computer sends to each machine itself: models that lie here."""
    return sum(model.gb or 0.0 for model in catalog.environment.models if model.file is not None)


def _model_gb(model: ModelFile, priors: Mapping[str, float]) -> float:
    if model.gb is not None:
        return model.gb
    is_checkpoint = PurePosixPath(model.path).parts[0] in CHECKPOINT_FOLDERS
    return priors["checkpoint_gb" if is_checkpoint else "model_gb"]


def _result_gb(catalog: Catalog, store: Store | None, prior_gb: float) -> float:
    if store is None:
        return prior_gb
    jobs, total = store.result_bytes(catalog.template.digest, jobs_max=RESULTS_READ_MAX)
    return (prior_gb * PRIOR_JOBS + total / BYTES_PER_GB) / (PRIOR_JOBS + jobs)
