"""Mutants differ from what they were made of, by one change each, and say where."""

from __future__ import annotations

import ast
from pathlib import Path

import nightkiln.core
from tests.mutation.mutants import mutants

SOURCE = '''
LIMIT_MAX = 3


def rule(state, held: int = 2):
    """Words stay as they are."""
    assert held > 0
    if not state and held < LIMIT_MAX:
        yield held + 1
    state.clear()
'''


def test_each_mutant_has_one_change_and_tells_where() -> None:
    found = {(each.where, each.change) for each in mutants(SOURCE)}

    assert found == {
        ("LIMIT_MAX", "3  ->  4"),
        (
            "rule",
            "if not state and held < LIMIT_MAX:  ->  if not (not state and held < LIMIT_MAX):",
        ),
        ("rule", "not state and held < LIMIT_MAX  ->  not state or held < LIMIT_MAX"),
        ("rule", "not state  ->  state"),
        ("rule", "held < LIMIT_MAX  ->  held <= LIMIT_MAX"),
        ("rule", "held < LIMIT_MAX  ->  held >= LIMIT_MAX"),
        ("rule", "yield (held + 1)  ->  yield from ()"),
        ("rule", "held + 1  ->  held - 1"),
        ("rule", "1  ->  2"),
        ("rule", "state.clear()  ->  pass"),
    }


def test_every_mutant_of_the_rules_is_a_module_of_its_own() -> None:
    path = Path(nightkiln.core.__path__[0]) / "release_rules.py"
    source = path.read_text()

    sources = [each.source for each in mutants(source)]

    assert len(sources) > 50
    assert ast.unparse(ast.parse(source)) not in sources
    for each in sources:
        compile(each, path.name, "exec")
