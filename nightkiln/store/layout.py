"""What lies in every store from its first moment on, and what its views depend on."""

from __future__ import annotations

from nightkiln.core.learning import Scores
from nightkiln.ports.blobs import Blobs
from nightkiln.store.charges import CHARGES
from nightkiln.store.manifest import newest_manifest
from nightkiln.store.quotes import QUOTES
from nightkiln.store.records import BATCHES, LEASES
from nightkiln.store.rows import RESULTS, SCHEMA_VERSION, parquet_bytes
from nightkiln.store.scores import MARKET, market_json
from nightkiln.store.views import Has

SCHEMAS = {
    "results": RESULTS,
    "leases": LEASES,
    "batches": BATCHES,
    "quotes": QUOTES,
    "charges": CHARGES,
}

# A glob that matches nothing is an error in DuckDB, and the first file's schema is the view's:
# a file without rows, first in every listing, answers for both.
EMPTY_DAY = "dt=1970-01-01/"
_EMPTY = f"{EMPTY_DAY}schema-{SCHEMA_VERSION}.parquet"


def lay_out(blobs: Blobs) -> None:
    """Give every kind of file one without rows; done twice is as good."""
    for kind, schema in SCHEMAS.items():
        blobs.create(f"{kind}/{_EMPTY}", parquet_bytes(schema.empty_table()))
    blobs.create(f"{MARKET}0.json", market_json(Scores(), (), (), now_s=0.0))


def facts_of(blobs: Blobs) -> Has:
    """What the views depend on."""
    return Has(
        scores=_has(blobs, MARKET),
        quotes=_has(blobs, "quotes/"),
        charges=_has(blobs, "charges/"),
        manifest=newest_manifest(blobs),
        versions=any(key != f"results/{_EMPTY}" for key in blobs.list(f"results/{EMPTY_DAY}")),
    )


def _has(blobs: Blobs, prefix: str) -> bool:
    return next(iter(blobs.list(prefix)), None) is not None
