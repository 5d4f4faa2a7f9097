"""Whose a lease is, told from its name: another batch's is never taken for ours."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.lease_ids import batch_of_run, in_full, is_of_run, lease_id, run_of
from nightkiln.core.model import LeaseId

BATCHES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True)
EPOCHS = st.integers(1, 10**7)
NUMBERS = st.integers(0, 10**5)


@given(batch=BATCHES, other=BATCHES, epoch=EPOCHS, number=NUMBERS)
def test_a_lease_is_of_its_own_batch_and_of_no_other(
    batch: str, other: str, epoch: int, number: int
) -> None:
    name = lease_id(f"{batch}-{epoch}", number)

    assert in_full(name, batch) == name
    assert (in_full(name, other) is not None) == (batch == other)
    assert batch_of_run(f"{batch}-{epoch}") == batch
    assert is_of_run(name, f"{batch}-{epoch}")
    assert not is_of_run(name, f"{batch}-{epoch + 1}")
    assert run_of(name) == f"{batch}-{epoch}"


@pytest.mark.parametrize(
    "name", ["night-1-2-lease-000", "nigh-1-lease-000", "night-lease-000", "night-1-lease", ""]
)
def test_a_name_that_only_looks_alike_is_not_ours(name: str) -> None:
    assert in_full(name, "night") is None
    assert run_of(LeaseId(name)) != "night-1"


@given(batch=BATCHES, other=BATCHES, kept=st.integers(0, 10))
def test_a_name_cut_to_fit_a_label_is_known_by_its_digest(
    batch: str, other: str, kept: int
) -> None:
    digest = hashlib.sha256(batch.encode()).hexdigest()[:8]
    listed = f"{batch[:kept]}~{digest}-3-lease-012"

    assert in_full(listed, batch) == LeaseId(f"{batch}-3-lease-012")
    assert (in_full(listed, other) is not None) == (other == batch)
