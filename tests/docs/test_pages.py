"""Every command that README and docs show is run as shown, and what they point at is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from nightkiln import cli
from nightkiln.testing.comfyui.process import stand_in_process
from tests.docs.shown import (
    DEPLOYED_PAGES,
    ELSEWHERE,
    MODAL_PAGE,
    PREFECT_PAGE,
    ROOT,
    S3_PAGE,
    TUTORIAL,
    VAST_PAGE,
    Shell,
    commands,
    pages,
)

SHOWN = {page: commands((ROOT / page).read_text()) for page in pages()}
ELSEWHERE_WHOLE = {MODAL_PAGE, PREFECT_PAGE, S3_PAGE, TUTORIAL, VAST_PAGE, *DEPLOYED_PAGES}
HERE = [page for page in SHOWN if page not in ELSEWHERE_WHOLE]
SLOW = {
    **dict.fromkeys(
        [
            "docs/how-to/approve.md",
            "docs/how-to/deadline.md",
            "docs/how-to/receipt.md",
            "docs/how-to/resume.md",
            "docs/how-to/retry.md",
            "docs/reference/store.md",
            "docs/reference/tables.md",
        ],
        pytest.mark.nights,
    ),
    **dict.fromkeys(
        [
            "docs/how-to/compare.md",
            "docs/how-to/export.md",
            "docs/how-to/gallery.md",
            "docs/how-to/rehearse.md",
            "docs/how-to/select.md",
            "docs/reference/stories.md",
        ],
        pytest.mark.long,
    ),
}
READ = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
MINE = "prompt,category\na fox at dawn,animals\na harbour in fog,places\n"
WORDS = st.text("abc -$#'\"", min_size=1).map(str.strip).filter(bool)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """What every page may assume: a ComfyUI at its usual address, a workflow, some prompts."""
    with stand_in_process() as worker:
        ready = Shell(tmp_path, {"8188": worker.url.rpartition(":")[2]})
        (tmp_path / "workflow.json").symlink_to(ROOT / "catalogs" / "parti" / "workflow.json")
        (tmp_path / "prompts.csv").write_text(MINE)
        (tmp_path / "prompts.txt").write_text("a fox at dawn\na harbour in fog\n")
        yield ready


def assumed(page: str, shell: Shell) -> None:
    """What a page assumes beyond that: a reference is for somebody who has had a first night."""
    if not page.startswith("docs/reference/"):
        return
    shell.run("export PATH=$PWD/.venv/bin:$PATH")
    if any("results" in command for command in SHOWN[page]):
        shell.run("nightkiln run catalogs/demo --worker-url http://127.0.0.1:8188 --limit 4")
        (shell.folder / "results").symlink_to(shell.folder / "nightkiln-store")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=SLOW[page]) if page in SLOW else page
        for page in HERE
        if SHOWN[page]
    ],
)
def test_every_command_of_a_page_works_as_shown(page: str, shell: Shell) -> None:
    assumed(page, shell)

    for command in SHOWN[page]:
        if command not in ELSEWHERE.get(page, {}):
            shell.run(command)


def test_what_is_said_to_be_run_elsewhere_is_still_shown() -> None:
    for page, excepted in ELSEWHERE.items():
        assert set(excepted) <= set(SHOWN[page]), page


@given(before=WORDS, command=WORDS)
def test_no_block_hides_a_command(before: str, command: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        commands(f"{before}\n```\n$ {command}\n```\n")


def test_commands_are_found_in_both_kinds_of_block_also_over_several_lines() -> None:
    page = (
        "1. First:\n\n   ```sh\n   make it   # so\n   run \\\n     --all\n   ```\n"
        "```console\n$ see 'this'\nthis\n```\n```yaml\nno: command\n```\n"
    )

    assert commands(page) == ["make it", "run   --all".replace("   ", " "), "see 'this'"]


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())

    gone = [to for to in targets if "://" not in to and not (page.parent / to).exists()]
    assert gone == []


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_every_command_named_in_passing_exists(page: Path) -> None:
    known = set(typer.main.get_group(cli.app).commands)
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()

    assert set(re.findall(r"`nightkiln ([a-z][a-z-]*)", text)) <= known
    assert set(re.findall(r"`make ([a-z0-9-]+)", text)) <= targets
