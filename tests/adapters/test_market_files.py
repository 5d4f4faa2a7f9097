from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from nightkiln.core.errors import BadInput
from nightkiln.testing.market import SHIPPED, load_market, shipped_market
from nightkiln.testing.market.reading import MARKET_BYTES_MAX, parse_market

MARKETS = resources.files("nightkiln") / "data" / "markets"
ORDINARY = (MARKETS / "ordinary.toml").read_text()


def figures(text: str) -> list[tuple[str, str]]:
    """(where, line) of every number line."""
    found, table = [], ""
    for line in text.splitlines():
        if head := re.match(r"\[(.+)\]", line):
            table = head[1]
        elif key := re.match(r"(\w+) = [-\d]", line):
            found.append((f"{table}.{key[1]}", line))
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_market_can_be_read(name: str) -> None:
    market = shipped_market(name)

    assert market.name == name
    assert re.fullmatch("[0-9a-f]{12}", market.digest)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_number_says_unit_provenance_and_date(name: str) -> None:
    for where, line in figures((MARKETS / f"{name}.toml").read_text()):
        parts = [part.strip() for part in line.partition("#")[2].split("|")]
        assert len(parts) >= 3, (where, line)
        assert parts[1] in {"measured", "published", "derived", "guess"}, (where, line)
        assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", parts[2]), (where, line)


def test_the_shipped_markets_are_three_different_ones() -> None:
    assert len({shipped_market(name).digest for name in SHIPPED}) == 3


def test_a_missing_key_is_named_wherever_it_is() -> None:
    for where, line in figures(ORDINARY):
        with pytest.raises(BadInput) as refused:
            parse_market(ORDINARY.replace(line + "\n", "").encode(), where="mine.toml")

        assert f"mine.toml: {where}: missing key" in str(refused.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-7.0", "true", '"many"', "1e300"])
def test_a_figure_that_is_none_is_refused_wherever_it_is(value: str) -> None:
    for where, line in figures(ORDINARY):
        key = line.partition(" ")[0]
        bad = ORDINARY.replace(line + "\n", f"{key} = {value}\n")

        with pytest.raises(BadInput) as refused:
            parse_market(bad.encode(), where="mine.toml")

        assert f"mine.toml: {where}" in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[price]", "[prise]", "prise: unknown table"),
        ("[price]", "[price]\ncolour = 1", "price.colour: unknown key"),
        ("[meta]", "jobs = 3\n[meta]", "jobs: is no table"),
        ("shares = [0.40", "shares = [0.50", "regions.shares: sum to 1.1"),
        ("shares = [0.40, ", "shares = [", "regions.shares: wants one share per name"),
        ("outage_region = 0", "outage_region = 4", "outage_region: is no index"),
        ("bid_ratio_low = 0.45", "bid_ratio_low = 0.95", "bid_ratio_low: is above bid_ratio_high"),
        ("early_share = 0.5", "early_share = 0.9", "is above 1 together with early_share"),
        ("job_fail_share = 0.003", "job_fail_share = 1.5", "job_fail_share: 1.5 is not within"),
        ("schema = 1", "schema = 2", "meta.schema: 2 is not within"),
        ("machines = 70", "machines = 7.5", "class.RTX_3090.machines: 7.5 is no int"),
    ],
)
def test_what_makes_no_market_is_refused_by_name(old: str, new: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_market(ORDINARY.replace(old, new, 1).encode(), where="mine.toml")

    assert said in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    text = ORDINARY.replace("sigma = 0.22", "sigma = -1").replace("cold_s = 60.0", "")

    with pytest.raises(BadInput) as refused:
        parse_market(text.encode(), where="mine.toml")

    assert len(refused.value.problems) == 2


@pytest.mark.parametrize("content", [b"\xff", b"[", b"#" * (MARKET_BYTES_MAX + 1), b""])
def test_a_file_that_is_no_market_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "market.toml"
    path.write_bytes(content)

    with pytest.raises(BadInput, match=re.escape(str(path))):
        load_market(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_market(tmp_path / "none.toml")


def test_a_market_that_is_not_shipped_names_those_that_are() -> None:
    with pytest.raises(BadInput, match="ordinary, scarce, flooded"):
        shipped_market("../../secrets")


def test_a_market_may_offer_nothing() -> None:
    text = re.sub(r"machines = \d+", "machines = 0", ORDINARY)

    assert all(one.machines == 0 for one in parse_market(text.encode(), where="x").classes.values())


def test_what_is_expected_beforehand_may_be_wrong() -> None:
    text = ORDINARY.replace(
        "seconds_per_job = 4.4", "prior_seconds_per_job = 2.0\nseconds_per_job = 4.4"
    )

    assert parse_market(text.encode(), where="x").classes["RTX_4090"].prior_seconds_per_job == 2.0
