"""What the query of a catalog may read: a catalog may be a stranger's, and its rows leave."""

from __future__ import annotations

from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.catalog import Catalog, Prompts, load_catalog, load_rows, scratch
from nightkiln.core.errors import BadInput
from nightkiln.testing.samples import write_catalog

ROWS = [{"prompt": f"prompt {number}"} for number in range(3)]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """One with files beside it, and others of the same names in the folder above."""
    found = load_catalog(write_catalog(tmp_path / "catalog", ROWS))
    (found.folder / "more.csv").write_text("prompt\nof the catalog\n")
    (found.folder / "parts").mkdir()
    (found.folder / "parts" / "one.csv").write_text("prompt\nof a part\n")
    (tmp_path / "more.csv").write_text("prompt\nof the current folder\n")
    (tmp_path / "secret.csv").write_text("prompt\nsecret\n")
    (tmp_path / "secret.txt").write_text("secret")
    return found


def prompts(catalog: Catalog, sql: str) -> list[str]:
    """The rows of a catalog with this query, asked for from the folder above it."""
    with scratch() as con, chdir(catalog.folder.parent):
        load_rows(con, replace(catalog, prompts=Prompts(sql=sql)))
        found = con.execute("select prompt from catalog_rows order by nightkiln_row").fetchall()
    return [text for (text,) in found]


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("FROM 'more.csv'", ["of the catalog"]),
        ('FROM "more.csv"', ["of the catalog"]),
        ("FROM './more.csv'; -- that is it", ["of the catalog"]),
        ("FROM read_csv('more.csv', header = true)", ["of the catalog"]),
        (
            "FROM read_csv(['more.csv', 'parts/one.csv']) ORDER BY 1",
            ["of a part", "of the catalog"],
        ),
        ("FROM '*/*.csv'", ["of a part"]),
        ("SELECT trim(content) AS prompt FROM read_text('parts/*.csv')", ["prompt\nof a part\n"]),
        ("WITH a AS (FROM 'prompts.parquet') FROM a LIMIT 1", ["prompt 0"]),
        ("SELECT 'no. ' || i AS prompt FROM range(2) t(i)", ["no. 0", "no. 1"]),
        ("SELECT unnest(['a', 'b']) AS prompt", ["a", "b"]),
        ("FROM 'prompts.parquet' SEMI JOIN (SELECT 'prompt 1' AS prompt) USING (prompt)",
         ["prompt 1"]),
    ],
)  # fmt: skip
def test_a_query_reads_what_lies_beside_its_catalog(
    catalog: Catalog, sql: str, found: list[str]
) -> None:
    assert prompts(catalog, sql) == found


@pytest.mark.parametrize(
    "sql",
    [
        "FROM 'ABOVE/secret.csv'",
        "FROM '../secret.csv'",
        "FROM 'parts/../../secret.csv'",
        "FROM 'secret.csv'",
        'FROM "secret.csv"',
        "SELECT content AS prompt FROM read_text('secret.txt')",
        "SELECT content AS prompt FROM read_text('ABOVE/secret.txt')",
        "SELECT content AS prompt FROM read_text('ABOVE/sec' || 'ret.txt')",
        "SELECT content AS prompt FROM read_text(['more.csv', '../secret.txt'])",
        "SELECT content AS prompt FROM read_text('~/.ssh/id_ed25519')",
        "SELECT content AS prompt FROM read_text('file://ABOVE/secret.txt')",
        "SELECT content AS prompt FROM read_text('local://ABOVE/secret.txt')",
        "SELECT file AS prompt FROM glob('ABOVE/*')",
        "SELECT (SELECT content FROM read_text('../secret.txt')) AS prompt",
        "FROM 'more.csv' WHERE prompt IN (SELECT content FROM read_text('../secret.txt'))",
        "FROM 'more.csv' UNION ALL FROM '../secret.csv'",
        "WITH a AS (FROM '../secret.csv') FROM a",
        "FROM query('FROM ''ABOVE/secret.csv''')",
        "FROM query_table('ABOVE/secret.csv')",
        "SELECT value AS prompt FROM duckdb_settings()",
        "SELECT prompt FROM sniff_csv('ABOVE/secret.csv')",
        "SELECT column_name AS prompt FROM (DESCRIBE '../secret.csv')",
        "SELECT column_name AS prompt FROM (SUMMARIZE 'ABOVE/secret.csv')",
        "FROM sqlite_scan('ABOVE/x.db', 'x')",
    ],
)
def test_a_query_that_reads_anything_else_is_refused(catalog: Catalog, sql: str) -> None:
    with pytest.raises(BadInput, match=r"beside|plain"):
        prompts(catalog, sql.replace("ABOVE", str(catalog.folder.parent)))


def test_a_query_of_the_users_own_may_read_what_it_likes(catalog: Catalog, tmp_path: Path) -> None:
    select = f"FROM '{tmp_path}/secret.csv'"
    with scratch() as con:
        load_rows(con, replace(catalog, select=select))

        assert con.execute("select prompt from catalog_rows").fetchall() == [("secret",)]
