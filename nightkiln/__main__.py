"""``python -m nightkiln``."""

from __future__ import annotations

from nightkiln.cli import main

main()
