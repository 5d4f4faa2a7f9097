"""A stand-in for ComfyUI: the same contract on a loopback port, without models or a GPU.

From a shell: ``python -m nightkiln.testing.comfyui --port 8188 --render-s 0.05``; in a test::

    async with StandIn(faults=["corrupt@3"]) as server:
        ...  # talk to server.url

What it answers is what ComfyUI 0.3.75 answers: tests/conformance asks both the same questions.
Pictures are small deterministic mosaics, marked ``nightkiln-stand-in`` in their metadata. Not
there: the web front end, user data, masks, previews while sampling, resized views, the newest
output nodes (they finish without files).
"""

from nightkiln.testing.comfyui.faults import FAULTS
from nightkiln.testing.comfyui.server import StandIn
from nightkiln.testing.comfyui.worker import Render

__all__ = ["FAULTS", "Render", "StandIn"]
