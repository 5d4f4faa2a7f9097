"""Which browser pages are tested in; ``python -m tests.ui.chromium`` says it.

Where there is none it installs Debian's, if it may.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")
VARIABLE = "NIGHTKILN_CHROMIUM"
PACKAGES = ("chromium", "fonts-dejavu-core")


def found_chromium() -> str | None:
    """The one that the variable names, else the one on the path."""
    named = os.environ.get(VARIABLE)
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def install() -> None:
    """Debian's, as root; what apt-get says goes to standard error."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"no Chromium: install one (Debian: chromium), or name it in {VARIABLE}")
    print("chromium: installing Debian's (half a minute to three)", file=sys.stderr)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "-qq", *words], env=quiet, check=True, stdout=sys.stderr)


def main() -> None:
    """Print where it is."""
    if found_chromium() is None:
        install()
    print(found_chromium())


if __name__ == "__main__":
    main()
