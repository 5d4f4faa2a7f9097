"""docs/how-to/modal.md, command by command, on a fake Modal; its prices are those of the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nightkiln.modal_settings import ModalSettings
from nightkiln.providers.modal.prices import dated
from tests.adapters.modal_world import TERMS, a_modal
from tests.docs.shown import ELSEWHERE, MODAL_PAGE, ROOT, Shell, commands

PAGE = (ROOT / MODAL_PAGE).read_text()


@pytest.mark.nights
def test_every_command_of_the_page_works_as_shown(tmp_path: Path) -> None:
    with a_modal() as modal:
        shell = Shell(tmp_path, {}, **modal.env())
        shell.run(". .venv/bin/activate")
        # An older deploy, to go back to, and what that of the page would do, but for its 4 GB.
        shell.run("NIGHTKILN_MODAL_GPUS=L4 nightkiln modal deploy catalogs/demo --no-models")
        shell.run("nightkiln modal deploy catalogs/demo --no-models")

        said = {
            command: shell.run(command)
            for command in commands(PAGE)
            if command not in ELSEWHERE[MODAL_PAGE]
        }

        assert "is for this environment" in said["nightkiln modal status catalogs/demo"]
        assert list(modal.containers) == []  # none of it costs anything


@pytest.mark.parametrize("gpu", re.findall(r"^\| ([A-Z0-9-]+) \| [0-9.]+ \|", PAGE, re.MULTILINE))
def test_prices_on_the_page_are_those_of_the_file(gpu: str) -> None:
    found = re.search(rf"^\| {gpu} \| ([0-9.]+) \|", PAGE, re.MULTILINE)
    usd = dated().usd_per_s(gpu, cpu=TERMS.cpu, memory_mib=TERMS.memory_mib) * 3600

    assert found is not None
    assert found[1] == f"{usd:.2f}"


def test_every_setting_of_modal_is_on_the_page() -> None:
    named = set(re.findall(r"NIGHTKILN_(MODAL_[A-Z_]+)", PAGE))

    assert named == {name.upper() for name in ModalSettings.model_fields}
