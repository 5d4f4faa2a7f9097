"""What providers have billed for leases: one row per lease and reading, the latest one counts."""

from __future__ import annotations

import pyarrow as pa

from nightkiln.ports.blobs import Blobs
from nightkiln.ports.provider import Charge
from nightkiln.store.records import create_row, money
from nightkiln.store.rows import SCHEMA_VERSION, text, utc

_USD = pa.decimal128(12, 6)

CHARGES = pa.schema(
    [
        ("lease_id", pa.string()),
        ("provider", pa.string()),
        ("read_at", pa.timestamp("us")),
        ("usd", _USD),
        ("usd_gpu", _USD),
        ("usd_storage", _USD),
        ("usd_in", _USD),
        ("usd_out", _USD),
        ("usd_other", _USD),
        ("schema_version", pa.int32()),
    ]
)


def write_charge(blobs: Blobs, charge: Charge, *, provider: str, date: str, read_s: float) -> None:
    """Add a reading; ``date`` is the batch's, under which its leases are filed."""
    row = {
        "lease_id": charge.lease_id,
        "provider": text(provider),
        "read_at": utc(read_s),
        "usd": money(charge.usd),
        "usd_gpu": money(charge.gpu),
        "usd_storage": money(charge.storage),
        "usd_in": money(charge.traffic_in),
        "usd_out": money(charge.traffic_out),
        "usd_other": money(charge.other),
        "schema_version": SCHEMA_VERSION,
    }
    key = f"charges/dt={date}/{charge.lease_id}-{round(read_s * 1000)}.parquet"
    create_row(blobs, key, CHARGES, row)
