"""Fire a catalog of prompts overnight, on the cheapest GPUs that will be done by morning."""

from __future__ import annotations

__version__ = "0.1.0"
