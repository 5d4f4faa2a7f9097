"""Prefect flows, thin: parameters in, one batch, sweep or report, a state out."""

from __future__ import annotations

import logging

# PREFECT_LOGGING_EXTRA_LOGGERS=nightkiln sends what the library logs to Prefect, but leaves its
# level to the root's, which is WARNING: without this no line at INFO would arrive.
logging.getLogger("nightkiln").setLevel(logging.INFO)
