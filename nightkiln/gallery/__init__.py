"""A page to look through a batch with: no server, no address but that of the images.

``tiles`` reads what there is to see, ``thumbnails`` makes it small, ``page`` writes it down as data
that the shipped page (``nightkiln/data/gallery``) shows, ``build`` puts the three together, and
``links`` says where a full-size file is found from there.
"""

from __future__ import annotations

from nightkiln.gallery.build import Built, Sources, build_gallery
from nightkiln.gallery.links import Link, origin_of, relative_link
from nightkiln.gallery.tiles import TILES_MAX, Facts, Tile, read_facts, read_tiles

__all__ = [
    "TILES_MAX",
    "Built",
    "Facts",
    "Link",
    "Sources",
    "Tile",
    "build_gallery",
    "origin_of",
    "read_facts",
    "read_tiles",
    "relative_link",
]
