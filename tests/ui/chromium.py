"""Which browser pages are tested in."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")
VARIABLE = "NIGHTKILN_CHROMIUM"


def found_chromium() -> str | None:
    """The one that the variable names, else the one on the path."""
    named = os.environ.get(VARIABLE)
    return named or next(filter(None, map(shutil.which, NAMES)), None)
