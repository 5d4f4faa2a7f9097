r"""From a catalog row to jobs: what a row's values are, and the id that they give.

The catalog adapter does the same by column, in SQL, for millions of rows; this is the form to
read and to test it against. An id is sha256 over ::

    nightkiln-job-1\n <template digest>\n <environment digest>\n <inputs, sorted by name>

where an input is ``<name><value>`` and each part carries its length in bytes, so that no two
different rows are written alike: ``6:prompts5:a fox``, ``4:seedn1:7``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from nightkiln.core.model import JobId, Value

JOB_VERSION = "nightkiln-job-1"
SEED_VERSION = "nightkiln-seed-1"
RESEED_VERSION = "nightkiln-reseed-1"
EXACT_BELOW = 2**53  # doubles below this hold every integer
SEED_HEX_DIGITS = 12  # 48 bits: a browser keeps the seed of a picture that is dragged into it
VARIANTS_MAX = 10_000  # jobs per row


class SeedRule(StrEnum):
    """What a row without a seed of its own gets."""

    GIVEN = "given"  # nothing: the column or a constant says it
    DERIVED = "derived"  # equal rows, equal seeds, in every batch
    DERIVED_PER_BATCH = "derived_per_batch"  # equal rows, equal seeds, within a batch


@dataclass(frozen=True, slots=True)
class Input:
    """One named hole of the workflow, and where a row's value for it comes from."""

    name: str
    is_column: bool  # the catalog's column of this name is read
    default: Value | None = None  # of a null, or of every row when there is no column
    is_file: bool = False  # the value is the sha256 of a file


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything but the row that decides which jobs a row means."""

    template_digest: str
    environment_digest: str
    inputs: tuple[Input, ...]  # sorted by name
    seed: str | None = None  # the input that variants count up
    seed_rule: SeedRule = SeedRule.GIVEN
    variants: int = 1  # jobs per row
    batch: str = ""  # matters to ``derived_per_batch`` alone

    def __post_init__(self) -> None:
        names = [item.name for item in self.inputs]
        assert names == sorted(set(names)), "inputs are sorted and named once"
        assert self.seed is None or self.seed in names, "the seed is an input"


def canonical(value: Value) -> Value:
    """One value for what means the same: 7.0 and 7, -0.0 and 0.

    Raises:
        ValueError: not a number, or an infinite one; preflight has refused it before.
    """
    if isinstance(value, float):
        if value != value or abs(value) == float("inf"):  # noqa: PLR0124 - the test for NaN
            raise ValueError(f"{value} cannot be rendered")
        if value.is_integer() and abs(value) < EXACT_BELOW:
            return int(value)
    return value


def encoded(value: Value, *, is_file: bool = False) -> str:
    """A value as ids see it: a tag for its kind, its length in bytes, its text."""
    value = canonical(value)
    match value:
        case bool():
            return _tagged("b", "1" if value else "0")
        case int():
            return _tagged("n", str(value))
        case float():
            return _tagged("n", f"{value:.17g}")
    return _tagged("f" if is_file else "s", value)


def _tagged(tag: str, text: str) -> str:
    return f"{tag}{len(text.encode())}:{text}"


def name_encoded(name: str) -> str:
    """An input's name as ids see it."""
    return _tagged("", name)


def row_values(
    recipe: Recipe, row: Mapping[str, Value | None], *, variant: int
) -> dict[str, Value]:
    """What variant ``variant`` (0-based) of ``row`` puts into the workflow; files as sha256.

    A null and a missing value mean the default. Inputs without either are left out; preflight
    has refused them before.
    """
    values: dict[str, Value] = {}
    for item in recipe.inputs:
        given = row.get(item.name) if item.is_column else None
        value = given if given is not None else item.default
        if value is not None:
            values[item.name] = canonical(value)
    if recipe.seed is not None:
        given = values.get(recipe.seed)
        if given is not None:
            assert isinstance(given, int), "preflight refuses a seed that is not an integer"
            values[recipe.seed] = given + variant
        else:
            values[recipe.seed] = derived_seed(recipe, values, variant=variant)
    return values


def derived_seed(recipe: Recipe, values: Mapping[str, Value], *, variant: int) -> int:
    """A seed that follows from what the row says, whatever its place, workflow or settings.

    Constants are left out: a catalog rendered with more steps keeps its seeds, so that the two
    can be compared picture by picture.
    """
    assert recipe.seed_rule is not SeedRule.GIVEN, "a seed that is given is not derived"
    text = seed_prefix(recipe)
    for item in recipe.inputs:
        if item.is_column and item.name != recipe.seed and item.name in values:
            text += name_encoded(item.name) + encoded(values[item.name], is_file=item.is_file)
    digest = hashlib.sha256(f"{text}{variant}".encode()).hexdigest()
    return int(digest[:SEED_HEX_DIGITS], 16)


def reseeded(job: JobId) -> int:
    """The seed of the job that is rendered instead of ``job``: another one, always the same."""
    digest = hashlib.sha256(f"{RESEED_VERSION}\n{job}".encode()).hexdigest()
    return int(digest[:SEED_HEX_DIGITS], 16)


def seed_prefix(recipe: Recipe) -> str:
    """What a derived seed's text starts with."""
    per_batch = recipe.seed_rule is SeedRule.DERIVED_PER_BATCH
    return f"{SEED_VERSION}\n" + (f"{_tagged('', recipe.batch)}\n" if per_batch else "")


def id_prefix(recipe: Recipe) -> str:
    """What the text of every job's id starts with."""
    return f"{JOB_VERSION}\n{recipe.template_digest}\n{recipe.environment_digest}\n"


def job_id(recipe: Recipe, values: Mapping[str, Value]) -> JobId:
    """The id of the job that renders ``values``."""
    text = id_prefix(recipe)
    for item in recipe.inputs:
        if item.name in values:
            text += name_encoded(item.name) + encoded(values[item.name], is_file=item.is_file)
    return JobId(hashlib.sha256(text.encode()).hexdigest())
