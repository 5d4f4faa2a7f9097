"""Make ``nightkiln/data/nodes.json`` from a running ComfyUI without models and uploads.

    python scripts/stock_definitions.py http://127.0.0.1:8188 > nightkiln/data/nodes.json

Facts only: names, types, ranges and choices, none of the descriptions.
"""

from __future__ import annotations

import json
import sys
import urllib.request

from nightkiln.nodes import compact

# Lists of files that are not empty even on a machine without any.
FILES_AND_MORE = (("VAELoader", "vae_name"), ("TrainLoraNode", "existing_lora"))
TIMEOUT_S = 60


def main(url: str) -> None:
    """Print the definitions, one class per line."""
    with urllib.request.urlopen(f"{url}/object_info", timeout=TIMEOUT_S) as reply:  # noqa: S310
        definitions = compact(json.load(reply))
    for class_type, name in FILES_AND_MORE:
        definitions[class_type]["input"]["required"][name][0] = []
    lines = (
        f"{json.dumps(name)}: {json.dumps(definitions[name], separators=(',', ':'))}"
        for name in sorted(definitions)
    )
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main(sys.argv[1])
