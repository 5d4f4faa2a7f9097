"""What a column holds never decides where a file goes."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightkiln.core.errors import BadInput
from nightkiln.export.naming import COMPONENT_BYTES_MAX, DEVICES, FIELD_BYTES_MAX, cleaned, template

COLUMNS = ["job_id", "batch", "seed", "row", "index", "prompt", "category"]
ANYTHING = st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.text("./\\:~- \0é"))


@given(values=st.tuples(ANYTHING, ANYTHING))
@example(values=("..", "../../etc/passwd"))
@example(values=("/etc", "C:\\con"))
@example(values=("manifest.json", "nul"))
@example(values=("\u202egnp.exe", ".bashrc"))
@example(values=("$(id)`id`", "'; rm -rf ~ #[a]{b}(c)&!^"))
def test_whatever_columns_hold_the_name_stays_in_its_folder(values: tuple[object, object]) -> None:
    named = template("{category}/{prompt}.png", COLUMNS)

    stem = named.stem({"category": values[0], "prompt": values[1]})

    path = PurePosixPath(f"{stem}.png")
    assert not path.is_absolute()
    assert not PureWindowsPath(path).is_absolute()
    assert len(path.parts) == 2, "one part of the template is one part of the path"
    for part in path.parts:
        assert part[0] not in ".-~"
        assert part.isprintable()
        assert not set(part) & set("/\\:*?\"<>|'`$;&!#(){}[]^ ")
        assert len(part.encode()) <= 255
        assert part.partition(".")[0].strip().lower() not in DEVICES
        assert part == part.rstrip(". ")
    assert path.parts[0].lower() != "manifest.json"


@given(st.text())
def test_a_value_is_short_and_composed(value: str) -> None:
    made = cleaned(value)

    assert 0 < len(made.encode()) <= FIELD_BYTES_MAX
    assert unicodedata.normalize("NFC", made) == made or len(value) > FIELD_BYTES_MAX // 4


@given(st.lists(st.text(min_size=1, max_size=100), min_size=9, max_size=9))
def test_many_long_values_in_one_part_are_cut_to_what_a_file_system_takes(texts: list[str]) -> None:
    columns = [f"c{number}" for number in range(9)]
    named = template("-".join(f"{{{column}}}" for column in columns), columns)

    stem = named.stem(dict(zip(columns, texts, strict=True)))

    assert len(stem.encode()) <= COMPONENT_BYTES_MAX + 1


def test_a_prompt_makes_a_name_that_can_be_read() -> None:
    assert cleaned("a fox at dawn, 35mm") == "a_fox_at_dawn,_35mm"
    assert cleaned("Füchse / лиса") == "Füchse_лиса"
    assert cleaned(None) == "none"


def test_the_template_of_the_handbook() -> None:
    named = template("{id}-{seed}.png", [*COLUMNS, "id"])

    assert named.stem({"id": "fox", "seed": 7}) == "fox-7"
    assert named.columns == ("id", "seed")


def test_id_is_the_jobs_where_the_catalog_has_none() -> None:
    assert template("{id}-{seed}", COLUMNS).columns == ("job_id", "seed")


def test_numbers_are_padded_so_that_names_sort() -> None:
    named = template("{row:06}-{INDEX}.{ext}", COLUMNS)

    assert named.stem({"row": 42, "index": 0}) == "000042-0"


def test_readers_that_split_at_the_first_dot_get_none_in_the_last_part() -> None:
    named = template("{batch}/{prompt}", COLUMNS)
    values = {"batch": "v1.5", "prompt": "f 1.8"}

    assert named.stem(values) == "v1.5/f_1.8"
    assert named.stem(values, has_dots=False) == "v1.5/f_1_8"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "same",
        "../{seed}",
        "/{seed}",
        "a//{seed}",
        "{seed}/",
        "{seed}/..",
        ". /{seed}",
        "a\\{seed}",
        "a:{seed}",
        "{seed}\n",
        "{",
        "{seed",
        "{seed!r}",
        "{seed.real}",
        "{seed[0]}",
        "{seed:>9999}",
        "{nope}",
        "{}",
        "{seed}" + "x" * 1000,
    ],
)
def test_a_template_that_makes_no_sense_is_refused_before_anything_is_written(text: str) -> None:
    with pytest.raises(BadInput, match="--name"):
        template(text, COLUMNS)


def test_a_column_that_is_not_there_is_named_and_those_that_are_are_listed() -> None:
    with pytest.raises(BadInput, match=r"'sede'.*columns: job_id, batch, seed"):
        template("{sede}", COLUMNS)


@pytest.mark.parametrize(("ending", "ext"), [("png", "png"), ("jpeg", "jpg"), ("{ext}", "mp4")])
def test_an_ending_that_fits_is_taken(ending: str, ext: str) -> None:
    template(f"{{seed}}.{ending}", COLUMNS).check_ext(ext, "images/x")


def test_an_ending_that_lies_is_refused() -> None:
    with pytest.raises(BadInput, match=r"images/x\.mp4 is a \.mp4"):
        template("{seed}.png", COLUMNS).check_ext("mp4", "images/x.mp4")


def test_names_can_be_made_on_this_disk(tmp_path: Path) -> None:
    named = template("{prompt}", COLUMNS)

    for value in ("..", "a/b", "x" * 4000, "é" * 300, "CON", "~root", "-rf"):
        (tmp_path / f"{named.stem({'prompt': value})}.png").write_bytes(b"")

    assert len(list(tmp_path.iterdir())) == 7
