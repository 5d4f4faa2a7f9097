"""Break the rules of the core one at a time, and say which breaks no test notices.

    python -m tests.mutation --sample 60 --seed 1
    python -m tests.mutation --only fleet_rules,budget --sample 1000

Each mutant is a copy of the core with one small change, on which tests/core runs until something
fails. A survivor is a rule that nobody holds to, or a change that makes no difference; which of the
two, somebody has to see. Not part of ``make test``: a mutant takes seconds, there are thousands.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
CORE = Path("nightkiln/core")
RUN_S_MAX = 180.0  # a mutant that loops for ever is noticed, too
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "tests/core")
DEAD = "raise AssertionError"  # a module that nobody could overlook: is it the copy that is tested?


def main() -> int:
    """Print survivors, then how many mutants of each module were noticed."""
    options = _options()
    found = [
        (module, mutant)
        for module in _modules(options.only)
        for mutant in mutants((ROOT / CORE / module).read_text())
    ]
    chosen = random.Random(options.seed).sample(found, min(options.sample, len(found)))  # noqa: S311
    print(f"{len(chosen)} of {len(found)} mutants, seed {options.seed}", flush=True)
    noticed, tried = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied(Path(folder))
        if not _passes(copy) or _passes(copy, "scheduler.py", DEAD):
            print("the tests must pass without a mutant, and fail without a scheduler")
            return 1
        for module, mutant in sorted(chosen, key=lambda one: (one[0], one[1].line)):
            tried[module] += 1
            if _passes(copy, module, mutant.source):
                print(_told(module, mutant), flush=True)
            else:
                noticed[module] += 1
    for module, count in sorted(tried.items()):
        print(f"{module:20} {noticed[module]:4} of {count} noticed")
    print(f"{'all':20} {noticed.total():4} of {tried.total()} noticed")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=60, help="how many mutants (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    parser.add_argument("--only", default="", help="modules of the core, with commas")
    return parser.parse_args()


def _modules(only: str) -> list[str]:
    known = sorted(path.name for path in (ROOT / CORE).glob("*.py"))
    wanted = [f"{name.removesuffix('.py')}.py" for name in only.split(",") if name]
    if unknown := set(wanted) - set(known):
        sys.exit(f"no such modules of the core: {', '.join(sorted(unknown))}")
    return wanted or known


def _copied(folder: Path) -> Path:
    for name in ("nightkiln", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _passes(copy: Path, module: str = "", source: str = "") -> bool:
    """Whether no test notices that a module has this source."""
    path = copy / CORE / module
    kept = path.read_text() if module else ""
    try:
        if module:
            path.write_text(source)
        command = (sys.executable, "-B", *PYTEST)
        done = subprocess.run(
            command, cwd=copy, capture_output=True, timeout=RUN_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        if module:
            path.write_text(kept)
    return done.returncode == 0


def _told(module: str, mutant: Mutant) -> str:
    return f"survived  {module}:{mutant.line} {mutant.where}: {mutant.change}"


if __name__ == "__main__":
    sys.exit(main())
