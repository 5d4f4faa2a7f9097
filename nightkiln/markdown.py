"""Markdown out of facts that may be a stranger's words: hosts, GPUs, errors, prompts."""

from __future__ import annotations

from collections.abc import Sequence

CELL_CHARS_MAX = 200


def cell(value: object, *, chars_max: int = CELL_CHARS_MAX) -> str:
    """A stranger's text as one harmless line: in a table, a list or a sentence."""
    letters = (letter if letter.isprintable() else " " for letter in str(value))
    line = " ".join("".join(letters).split())[:chars_max]
    for special in "\\`*_[]<>|~#&":
        line = line.replace(special, "\\" + special)
    # Else a bare address would become a link.
    return line.replace("://", ":\\//").replace("www.", "www\\.")


def table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Rows under a header; every cell is made harmless."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)


def code(text: str, language: str = "") -> str:
    """A block of ``text`` that ends where it ends, whatever is in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
