"""Rows to jobs: what makes two jobs the same, and what makes two seeds the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.model import Value
from nightkiln.core.plan import (
    Input,
    Recipe,
    SeedRule,
    canonical,
    encoded,
    job_id,
    name_encoded,
    row_values,
)

SEED_BITS_THAT_A_BROWSER_KEEPS = 53

values = (
    st.text()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)


def recipe(
    *columns: str,
    rule: SeedRule = SeedRule.DERIVED,
    constants: dict[str, Value] | None = None,
    workflow: str = "w",
    variants: int = 1,
    batch: str = "",
) -> Recipe:
    fixed = constants if constants is not None else {}
    inputs = [Input(name, is_column=True) for name in columns]
    inputs += [Input(name, is_column=False, default=value) for name, value in fixed.items()]
    if "seed" not in columns and "seed" not in fixed:
        inputs.append(Input("seed", is_column=False))
    return Recipe(
        workflow,
        "e",
        tuple(sorted(inputs, key=lambda item: item.name)),
        seed="seed",
        seed_rule=rule,
        variants=variants,
        batch=batch,
    )


def seed_of(some: Recipe, row: dict[str, Value | None], variant: int = 0) -> Value:
    return row_values(some, row, variant=variant)["seed"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "n1:7"),
        (7.0, "n1:7"),
        (-0.0, "n1:0"),
        (True, "b1:1"),
        ("7", "s1:7"),
        ("ä", "s2:ä"),
        (0.1, "n19:0.10000000000000001"),
        (2**64 - 1, "n20:18446744073709551615"),
        (1e300, "n23:1.0000000000000001e+300"),
    ],
)
def test_what_means_the_same_is_written_the_same(value: Value, text: str) -> None:
    assert encoded(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="cannot be rendered"):
        canonical(value)


@given(
    st.dictionaries(st.text(min_size=1, max_size=3), values, max_size=4),
    st.dictionaries(st.text(min_size=1, max_size=3), values, max_size=4),
)
def test_rows_are_written_alike_only_if_they_mean_the_same(
    one: dict[str, Value], other: dict[str, Value]
) -> None:
    def written(row: dict[str, Value]) -> str:
        return "".join(name_encoded(name) + encoded(row[name]) for name in sorted(row))

    def meant(row: dict[str, Value]) -> list[tuple[str, str, Value]]:
        return [
            (name, "bool" if isinstance(value, bool) else "", canonical(value))
            for name, value in sorted(row.items())
        ]

    assert (written(one) == written(other)) == (meant(one) == meant(other))


def test_equal_rows_are_one_job_and_get_equal_seeds_under_any_workflow() -> None:
    row: dict[str, Value | None] = {"prompt": "a fox"}
    here, there = recipe("prompt"), recipe("prompt", workflow="another")

    assert seed_of(here, row) == seed_of(there, row)
    assert job_id(here, row_values(here, row, variant=0)) != job_id(
        there, row_values(there, row, variant=0)
    )


def test_a_derived_seed_does_not_see_constants() -> None:
    row: dict[str, Value | None] = {"prompt": "a fox"}

    quick = recipe("prompt", constants={"steps": 4})
    thorough = recipe("prompt", constants={"steps": 40})

    assert seed_of(quick, row) == seed_of(thorough, row)


@given(st.text(), st.integers(0, 100))
def test_a_derived_seed_survives_a_browser(prompt: str, variant: int) -> None:
    seed = seed_of(recipe("prompt"), {"prompt": prompt}, variant)

    assert isinstance(seed, int)
    assert 0 <= seed < 2**SEED_BITS_THAT_A_BROWSER_KEEPS


def test_variants_of_a_derived_seed_differ() -> None:
    some = recipe("prompt", variants=50)

    assert len({seed_of(some, {"prompt": "a fox"}, variant) for variant in range(50)}) == 50


def test_variants_of_a_given_seed_count_up() -> None:
    some = recipe("prompt", "seed", rule=SeedRule.GIVEN, variants=3)

    assert [seed_of(some, {"prompt": "a fox", "seed": 41.0}, n) for n in range(3)] == [41, 42, 43]


def test_a_null_seed_is_derived_as_if_there_were_no_column() -> None:
    row: dict[str, Value | None] = {"prompt": "a fox", "seed": None}

    assert seed_of(recipe("prompt", "seed"), row) == seed_of(recipe("prompt"), row)


def test_a_seed_per_batch_differs_between_batches_only() -> None:
    def seed(batch: str) -> Value:
        some = recipe("prompt", rule=SeedRule.DERIVED_PER_BATCH, batch=batch)
        return seed_of(some, {"prompt": "a fox"})

    assert seed("monday") == seed("monday")
    assert seed("monday") != seed("tuesday")


def test_a_null_means_the_default() -> None:
    some = Recipe("w", "e", (Input("negative", is_column=True, default="blurry"),))

    spelled = row_values(some, {"negative": "blurry"}, variant=0)

    assert row_values(some, {"negative": None}, variant=0) == spelled


def test_a_file_and_a_text_of_the_same_letters_are_different_jobs() -> None:
    file = Recipe("w", "e", (Input("image", is_column=True, is_file=True),))
    text = Recipe("w", "e", (Input("image", is_column=True),))

    assert job_id(file, {"image": "f" * 64}) != job_id(text, {"image": "f" * 64})


def test_ids_never_change_between_releases() -> None:
    some = recipe("prompt")

    values = row_values(some, {"prompt": "a fox"}, variant=1)

    assert (values["seed"], job_id(some, values)) == (
        104779614237075,
        "fa892ee3933868fddab58ad7e0d8ad0ce17b7c11cefc3ea19c0ad356e65706f0",
    )
