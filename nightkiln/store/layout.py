"""What lies in every store from its first moment on."""

from __future__ import annotations

from nightkiln.core.learning import Scores
from nightkiln.ports.blobs import Blobs
from nightkiln.store.charges import CHARGES
from nightkiln.store.quotes import QUOTES
from nightkiln.store.records import BATCHES, LEASES
from nightkiln.store.rows import RESULTS, parquet_bytes
from nightkiln.store.scores import MARKET, market_json

SCHEMAS = {
    "results": RESULTS,
    "leases": LEASES,
    "batches": BATCHES,
    "quotes": QUOTES,
    "charges": CHARGES,
}

# A glob that matches nothing is an error in DuckDB, and the first file's schema is the view's:
# a file without rows, first in every listing, answers for both.
_EMPTY = "dt=1970-01-01/schema-1.parquet"


def lay_out(blobs: Blobs) -> None:
    """Give every kind of file one without rows; done twice is as good."""
    for kind, schema in SCHEMAS.items():
        blobs.create(f"{kind}/{_EMPTY}", parquet_bytes(schema.empty_table()))
    blobs.create(f"{MARKET}0.json", market_json(Scores(), (), (), now_s=0.0))
