"""How many files a graph of well-known nodes gives.

A class that is in none of the tables may do anything to the count, so its graph's is not told:
an exact number that is wrong would fail good images.
"""

from __future__ import annotations

from typing import Any

from nightkiln.core.graph import link
from nightkiln.core.model import Graph

_SAVES = {"SaveImage": "images", "PreviewImage": "images"}
_PASSES = {
    "ImageInvert": "image",
    "ImageScale": "image",
    "ImageScaleBy": "image",
    "KSampler": "latent_image",
    "KSamplerAdvanced": "latent_image",
    "LatentUpscale": "samples",
    "LatentUpscaleBy": "samples",
    "VAEDecode": "samples",
    "VAEDecodeTiled": "samples",
    "VAEEncode": "pixels",
}
_MAKES = frozenset({"EmptyImage", "EmptyLatentImage", "EmptySD3LatentImage"})
_STILLS = (".png", ".jpg", ".jpeg", ".bmp")  # a GIF or WebP may hold many frames
_NEUTRAL = frozenset(
    {
        "CheckpointLoaderSimple",
        "CLIPLoader",
        "CLIPSetLastLayer",
        "CLIPTextEncode",
        "ConditioningCombine",
        "ConditioningZeroOut",
        "DualCLIPLoader",
        "FluxGuidance",
        "LoraLoader",
        "LoraLoaderModelOnly",
        "ModelSamplingFlux",
        "ModelSamplingSD3",
        "UNETLoader",
        "VAELoader",
    }
)
_KNOWN = _SAVES.keys() | _PASSES.keys() | _MAKES | _NEUTRAL | {"LoadImage"}


def outputs_expected(graph: Graph) -> int | None:
    """How many files the graph saves, where its nodes are well known and say so; else None."""
    if any(body["class_type"] not in _KNOWN for body in graph.values()):
        return None
    total = 0
    for body in graph.values():
        key = _SAVES.get(body["class_type"])
        if key is not None:
            count = _batch(graph, body["inputs"].get(key))
            if count is None:
                return None
            total += count
    return total if total > 0 else None


def _batch(graph: Graph, value: Any) -> int | None:
    """The number of images that a link carries."""
    for _ in range(len(graph)):  # more steps than nodes would be a circle
        source = link(value)
        if source is None or source[0] not in graph:
            return None
        body = graph[source[0]]
        kind, inputs = body["class_type"], body["inputs"]
        if kind in _PASSES:
            value = inputs.get(_PASSES[kind])
            continue
        if kind == "LoadImage":
            return 1 if str(inputs.get("image", "")).lower().endswith(_STILLS) else None
        size = inputs.get("batch_size") if kind in _MAKES else None
        return size if isinstance(size, int) and not isinstance(size, bool) else None
    return None
