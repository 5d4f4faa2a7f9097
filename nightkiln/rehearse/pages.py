"""A quote and a rehearsal as pages in Markdown."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator

from nightkiln.markdown import cell
from nightkiln.rehearse import words
from nightkiln.rehearse.answer import Answer
from nightkiln.rehearse.asking import Jobs
from nightkiln.rehearse.chart import chart
from nightkiln.rehearse.picture import svg
from nightkiln.rehearse.summary import Summary

LINE_CHARS_MAX = 600


def quote_page(answer: Answer) -> str:
    """What a batch will cost and when it will be done."""
    lines = [
        f"# {_plain(answer.head())}",
        "",
        *(f"- {_plain(line)}" for line in answer.advice()),
        "",
    ]
    lines += ["| what | expected |", "| --- | --- |", *_facts(answer.facts()), ""]
    lines += _chart(answer.quote.summary)
    return "\n".join(lines) + "\n"


def rehearsal_page(summary: Summary, jobs: Jobs) -> str:
    """How the night goes, over all that were played."""
    first, *more = words.head(summary, jobs)
    lines = [f"# {_plain(first)}", "", *(f"- {_plain(line)}" for line in more), ""]
    lines += _chart(summary)
    lines += ["| a night | p10 | p50 | p90 |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {' | '.join(map(_plain, row))} |" for row in words.rows(summary)]
    lines += ["", _plain(words.waste(summary))]
    return "\n".join(lines) + "\n"


def _facts(facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, said in facts:
        yield f"| {f'**{_plain(name)}**' if name else ''} | {_plain(said)} |"


def _chart(summary: Summary) -> Iterator[str]:
    """In the page itself: it belongs to nobody else, and there is no place on the web for it."""
    drawn = b64encode(svg(chart(summary)).encode()).decode()
    yield f"![Cost and finish of {len(summary.nights)} nights](data:image/svg+xml;base64,{drawn})"
    yield ""


def _plain(text: str) -> str:
    """One line that means itself: names in it are those of files and apps."""
    return cell(text, chars_max=LINE_CHARS_MAX)
