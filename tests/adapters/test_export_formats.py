"""What other tools find in an export."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightkiln.core.errors import BadInput
from nightkiln.export.exporting import export
from nightkiln.export.request import Format, Request
from nightkiln.export.sheets import cell
from nightkiln.store.store import Store
from nightkiln.testing.settled import done, picture
from tests.adapters.export_world import PICTURES, a_store, picture_of, tree

NAME = "{category}/{row:03}"
NAMES = [f"Animals/{number:03}" for number in range(PICTURES)]
CAPTIONS = [f"a fox, number {number}" for number in range(PICTURES)]
FILES = [picture(number) for number in range(PICTURES)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return a_store(tmp_path_factory.mktemp("export") / "store")


def test_webdataset_reads_its_own_shards(store: Store, tmp_path: Path) -> None:
    request = Request(tmp_path / "out", Format.WEBDATASET, name=NAME, shard_rows=2)

    export(store, request)

    samples = list(read_by_the_package(tmp_path / "out"))
    assert [sample["__key__"] for sample in samples] == NAMES
    assert [sample["png"] for sample in samples] == FILES
    assert [sample["txt"].decode() for sample in samples] == CAPTIONS
    metadata = [json.loads(sample["json"]) for sample in samples]
    assert [each["challenge"] for each in metadata] == [0, 1, 2]
    assert [each["seed"] for each in metadata] == [0, 1, 2]


def read_by_the_package(folder: Path) -> Iterator[Mapping[str, Any]]:
    reading = pytest.importorskip("webdataset.tariterators")
    for shard in sorted(folder.glob("shard-*.tar")):
        with shard.open("rb") as stream:
            source = {"url": str(shard), "stream": stream}
            yield from reading.group_by_keys(reading.tar_file_expander([source]))


def test_a_long_name_in_a_tar_is_whole(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store", [picture_of(1, columns={"category": "ü" * 40})])
    name = "{category}-{job_id}-{category}"

    export(store, Request(tmp_path / "out", Format.WEBDATASET, name=name))

    [sample] = read_by_the_package(tmp_path / "out")
    assert sample["__key__"] == f"{'ü' * 40}-{done(1).job.id}-{'ü' * 37}"
    assert sample["png"] == picture(1)


def test_parquet_holds_the_files_and_keeps_every_type(store: Store, tmp_path: Path) -> None:
    export(store, Request(tmp_path / "out", Format.PARQUET, name=NAME, shard_rows=2))

    found = (
        duckdb.connect()
        .execute(
            "select file_name, text, file, challenge, typeof(usd_marginal), typeof(seed) "  # noqa: S608
            f"from '{tmp_path}/out/part-*.parquet' order by file_name"
        )
        .fetchall()
    )
    assert found == [
        (f"{name}.png", caption, data, number, "DECIMAL(12,6)", "UBIGINT")
        for number, (name, caption, data) in enumerate(zip(NAMES, CAPTIONS, FILES, strict=True))
    ]


def test_hugging_face_is_told_that_the_files_are_images(store: Store, tmp_path: Path) -> None:
    """The real loader takes it as such; here the words that it goes by (datasets 5.2)."""
    export(store, Request(tmp_path / "out", Format.HF, name=NAME, shard_rows=2))

    shards = [path.name for path in sorted((tmp_path / "out" / "data").iterdir())]
    table = pq.read_table(tmp_path / "out" / "data")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert shards == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert features["image"] == {"_type": "Image"}
    assert features["seed"] == {"dtype": "uint64", "_type": "Value"}
    assert list(features) == table.column_names
    assert table["image"].to_pylist() == [
        {"bytes": data, "path": f"{name}.png"} for data, name in zip(FILES, NAMES, strict=True)
    ]
    assert table["text"].to_pylist() == CAPTIONS
    assert "path: data/train-*.parquet" in (tmp_path / "out" / "README.md").read_text()


def test_a_data_set_of_images_and_videos_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store", [picture_of(1), picture_of(2, exts=["mp4"])])
    request = Request(tmp_path / "out", Format.HF)

    with pytest.raises(BadInput, match="media like 'image/%'"):
        export(store, request)

    assert not (tmp_path / "out").exists()


def test_loose_files_lie_under_their_names_with_captions_beside_them(
    store: Store, tmp_path: Path
) -> None:
    export(store, Request(tmp_path / "out", Format.FILES, name=NAME, shard_rows=2))

    found = tree(tmp_path / "out")
    lines = [json.loads(line) for line in found["metadata.jsonl"].splitlines()]
    assert [found[f"{name}.png"] for name in NAMES] == FILES
    assert [found[f"{name}.txt"].decode() for name in NAMES] == CAPTIONS
    assert [line["file_name"] for line in lines] == [f"{name}.png" for name in NAMES]
    assert [line["text"] for line in lines] == CAPTIONS


def test_outputs_of_one_name_are_refused_by_their_name(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"3 outputs would be called 'Animals'"):
        export(store, Request(tmp_path / "out", Format.FILES, name="{category}"))

    assert not (tmp_path / "out").exists()


def test_names_that_differ_in_case_alone_are_one_name_to_many_file_systems(tmp_path: Path) -> None:
    pictures = [picture_of(1, columns={"c": "Fox"}), picture_of(2, columns={"c": "fOX"})]
    store = a_store(tmp_path / "store", pictures, columns={"c": "VARCHAR"})

    with pytest.raises(BadInput, match="2 outputs would be called"):
        export(store, Request(tmp_path / "out", Format.FILES, name="{c}.png"))


def test_two_outputs_of_one_job_share_no_caption_file(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store", [picture_of(1, exts=["png", "jpg"])])

    with pytest.raises(BadInput, match="2 outputs would be called 'a_fox,_number_1'"):
        export(store, Request(tmp_path / "out", Format.FILES, name="{prompt}"))


def test_every_output_of_a_job_is_taken_with_its_own_facts(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store", [picture_of(1, exts=["png", "jpg"])])

    export(store, Request(tmp_path / "out", Format.CSV, columns=("index", "media", "bytes")))

    with (tmp_path / "out" / "rows-00000.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["text", "index", "media", "bytes"],
        ["a fox, number 1", "0", "image/png", "200"],
        ["a fox, number 1", "1", "image/jpeg", "205"],
    ]


def test_a_catalogs_columns_give_way_to_a_files_own_and_stay(tmp_path: Path) -> None:
    columns = {"media": "oil on canvas", "text": "a caption", "file_name": "x"}
    store = a_store(
        tmp_path / "store",
        [picture_of(1, columns=columns)],
        columns=dict.fromkeys(columns, "VARCHAR"),
    )
    request = Request(
        tmp_path / "out", Format.PARQUET, where="catalog_media like 'oil%'", caption="text"
    )

    export(store, request)

    [row] = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    assert (row["media"], row["catalog_media"]) == ("image/png", "oil on canvas")
    assert (row["text"], row["catalog_text"]) == ("a caption", "a caption")
    assert (row["catalog_file_name"], row["file"]) == ("x", picture(1))


@given(st.text())
@example('=HYPERLINK("http://x")')
@example(" \t=1+1")
@example("\u200b@SUM(A1)")
@example("'quoted'")
@example("\r\n-1")
@example('say "=1"')
def test_no_text_in_a_sheet_is_a_formula_and_none_is_lost(text: str) -> None:
    line = f"{cell(text)},{cell(None)},{cell('')}\r\n"

    [[read, null, empty]] = csv.reader([line])

    shown = [letter for letter in read if letter.isprintable() and not letter.isspace()]
    assert "".join(shown[:1]) not in set("=+-@\uff1d\uff0b\uff0d\uff20")

    assert read.removeprefix("'") == text
    assert (null, empty) == ("", "")


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_sheet_is_what_duckdb_reads(text: str) -> None:
    assert cell(text).startswith('"')
    assert cell(text).endswith('"')
    assert cell(-1.5) == "-1.5", "a number is no formula"
    assert cell([text]).startswith('"')
    assert cell(float("nan")) == ""
    assert (cell(True), cell(None)) == ("true", "")


def test_headers_come_from_strangers_too(tmp_path: Path) -> None:
    store = a_store(
        tmp_path / "store", [picture_of(1, columns={"=cmd": 1})], columns={"=cmd": "BIGINT"}
    )

    export(store, Request(tmp_path / "out", Format.CSV, columns=("=cmd",)))

    assert (tmp_path / "out" / "rows-00000.csv").read_text() == (
        '"text","\'=cmd"\n"a fox, number 1",1\n'
    )
