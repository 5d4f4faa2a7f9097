"""docs/reference/parameters.md out of the forms: ``python -m tasks.parameter_tables`` prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.form import TEXT, Form
from tasks.maintain import MaintainParams
from tasks.options import AsSetUp, LocalOptions, ModalOptions, SeveralOptions, VastOptions
from tasks.params import BatchParams, QuoteParams, RehearseParams, RetryParams
from tasks.reap import ReapParams

HEAD = """# Parameters of the deployments

Made by `python -m tasks.parameter_tables > docs/reference/parameters.md` from the forms themselves,
which [Prefect's page](../how-to/prefect.md) shows; a test holds them against each other. Every
deployment takes one parameter, `params`, an object of these fields; on the command line
`--param 'params={"catalog": "catalogs/demo"}'`.

A value that is out of bounds, misspelled or unknown is refused by Prefect's server before there is
a run, and the message names the field: `Validation failed for field 'params.budget'. Failure
reason: -1 is less than the minimum of 0`. What is left empty, or 0, is as it is set up where the
flow runs (`NIGHTKILN_*`, `nightkiln.toml`). Money is in USD. No field takes a secret, since Prefect
stores parameters in clear: the fields that end in `_block` take the name of a
[Secret block](../how-to/own-server.md#secrets).
"""
FORMS: Mapping[str, type[Form]] = {
    "nightly and adhoc": BatchParams,
    "retry": RetryParams,
    "quote": QuoteParams,
    "rehearse": RehearseParams,
    "reap": ReapParams,
    "maintain": MaintainParams,
}
TABS: Mapping[str, type[Form]] = {
    "as set up": AsSetUp,
    "local": LocalOptions,
    "vast": VastOptions,
    "modal": ModalOptions,
    "several": SeveralOptions,
}
PATTERN_CHARS_MAX = 40  # longer ones are told by the description


def page() -> str:
    """The whole page."""
    known = BatchParams.model_json_schema()["properties"]
    parts = [HEAD]
    for name, form in FORMS.items():
        schema = form.model_json_schema()
        fields = schema["properties"]
        own = {field: one for field, one in fields.items() if one_of(known, field) != told(one)}
        shared = [field for field in fields if field not in own]
        if form is BatchParams:
            own, shared = fields, []
        parts.append(
            f"## {name}\n\n{schema.get('description', '')}\n\n{_shared(shared)}{_table(own)}"
        )
    parts.append(
        "## options\n\nOne object, of one of these kinds; in the form its tabs. `several` holds "
        "objects of the others, for a batch that more than one provider works on."
    )
    for name, form in TABS.items():
        schema = form.model_json_schema()
        parts.append(f"### {name}\n\n{schema['description']}\n\n{_table(schema['properties'])}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def one_of(known: Mapping[str, Any], field: str) -> tuple[str, ...] | None:
    """What is told of a field of the first form, if it has such a one."""
    return told(known[field]) if field in known else None


def told(one: Mapping[str, Any]) -> tuple[str, ...]:
    """Default, values and meaning of a field."""
    return _default(one), ", ".join(_values(one)), " ".join(one["description"].split())


def _shared(fields: list[str]) -> str:
    return f"As above: {', '.join(f'`{field}`' for field in fields)}. And:\n\n" if fields else ""


def _table(fields: Mapping[str, Any]) -> str:
    lines = ["| field | default | values | meaning |", "| --- | --- | --- | --- |"]
    for name, one in fields.items():
        cells = (f"`{name}`", *told(one))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _default(one: Mapping[str, Any]) -> str:
    if "default" not in one:
        return "needed"
    if isinstance(one["default"], dict) and "kind" in one["default"]:
        return f"`{one['default']['kind']}`"
    return f"`{json.dumps(one['default'])}`"


def _values(one: Mapping[str, Any]) -> Iterator[str]:
    """What may stand there, as far as it is short to say."""
    if "const" in one:
        yield f"`{json.dumps(one['const'])}`"
    elif "anyOf" in one or "$ref" in one:
        yield "[options](#options)"
    elif "enum" in one:
        yield from (f"`{json.dumps(word)}`" for word in one["enum"])
    elif one["type"] == "array":
        yield f"list of {', '.join(_values(one['items'])) or 'texts'}"
    else:
        yield {"object": "texts by name", "boolean": "true or false", "string": "text"}.get(
            one["type"], one["type"]
        )
        yield from _bounds(one)


def _bounds(one: Mapping[str, Any]) -> Iterator[str]:
    if "minimum" in one and "maximum" in one:
        yield f"{one['minimum']:,} to {one['maximum']:,}"
    elif "minimum" in one:
        yield f"from {one['minimum']:,}"
    pattern = one.get("pattern", "")
    if pattern != TEXT and 0 < len(pattern) <= PATTERN_CHARS_MAX:
        yield f"`{pattern}`"


if __name__ == "__main__":
    sys.stdout.write(page())
