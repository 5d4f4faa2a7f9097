"""A page as somebody looks at it: what goes wrong in it is kept, and so are pictures of it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from PIL import Image

from tests.ui.timeline import bars

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Response

HERE = "127.0.0.1"
FOLDER = "NIGHTKILN_SCREENSHOTS"  # where pictures go; unset: none are kept
WIDTH, HEIGHT = 1280, 900
COLOURS = 128  # of a picture: a quarter of the bytes, and nobody sees it
STILL_MS, LOOKS_MAX = 500, 20  # a picture that is drawn stands still
CLICK_MS = 3000
WAIT_MS = 120_000  # a page of a busy computer
ERROR, BUSY = 400, 503
# Prefect's own, on every server: it asks for pictures that it does not have, and
# for the task run of an artifact that has none; and SQLite has one writer, on whom others wait.
PREFECTS_OWN = (
    (BUSY, re.compile(r"/api/")),
    (404, re.compile(r"/[a-z]+\.svg$|/favicon[^/]*$")),
    (422, re.compile(r"/api/task_runs/filter$")),
)


@dataclass
class Looked:
    """A page of a server, and what it was told off for."""

    page: Page
    url: str  # of the server
    troubles: list[str] = field(default_factory=list)

    def goes(self, path: str) -> None:
        """Open a page of the server; it never rests, so who looks waits for what he wants."""
        self.page.goto(f"{self.url}{path}", wait_until="domcontentloaded")

    def says(self, words: str | re.Pattern[str], *, within_s: float = WAIT_MS / 1000) -> str:
        """The text in which these words stand, once they can be seen."""
        found = self.page.get_by_text(words).first
        found.wait_for(timeout=within_s * 1000)
        return found.inner_text()

    def counts(
        self, words: re.Pattern[str], *, above: int, within_s: float = WAIT_MS / 1000
    ) -> int:
        """The highest number that the page says in these words, once it is above another."""
        highest = (
            "([words, above]) => { const said = [...document.body.innerText.matchAll(words)]"
            ".map((one) => Number(one[1])); const most = Math.max(0, ...said);"
            " return most > above ? most : null; }"
        )
        found = self.page.wait_for_function(
            highest.replace("(words)", "(new RegExp(words, 'g'))"),
            arg=[words.pattern, above],
            timeout=within_s * 1000,
        )
        return int(found.json_value())

    def chooses(self, item: str) -> None:
        """Something out of the menu of a run, which closes when its page is drawn anew."""
        from playwright.sync_api import TimeoutError as TooLateError

        for _ in range(LOOKS_MAX):
            try:
                self.page.locator("button[aria-haspopup=menu]").first.click(timeout=CLICK_MS)
                self.page.get_by_role("menuitem", name=item).click(timeout=CLICK_MS)
            except TooLateError:
                self.page.keyboard.press("Escape")
            else:
                return
        raise AssertionError(f"{item} could not be chosen")

    def sends(self, button: str, end: str) -> None:
        """Press a button that asks the server, again where its database is busy.

        ``end``: how the address ends that it asks.
        """
        for _ in range(LOOKS_MAX):
            pressed = self.page.get_by_role("button", name=button)
            with self.page.expect_response(lambda one: one.url.endswith(end)) as answered:
                pressed.click()
            if answered.value.status != BUSY:
                return
            self.page.wait_for_timeout(STILL_MS)
            self.troubles[:] = [one for one in self.troubles if "rror" not in one]  # of that alone
        raise AssertionError(f"{end} was busy")

    def follows(self, words: str) -> None:
        """A link, also one that opens beside the page."""
        link = self.page.get_by_role("link", name=words)
        if link.get_attribute("target") != "_blank":
            link.click()
            return
        with self.page.expect_popup() as beside:
            link.click()
        self.page = beside.value

    def bars(self) -> Counter[str]:
        """The bars of the timeline in sight, once it is drawn, by colour."""
        drawn = self.page.locator("canvas").first
        drawn.wait_for()
        before: Counter[str] = Counter()
        for _ in range(LOOKS_MAX):
            found = bars(drawn.screenshot())
            if found and found == before:
                break
            before = found
            self.page.wait_for_timeout(STILL_MS)  # it tells nobody when it stands still
        return found

    def keep(self, name: str, *, whole: bool = False) -> None:
        """A picture of what is in sight, or of the whole page, where pictures are wanted."""
        folder = os.environ.get(FOLDER)
        if folder is None:
            return
        seen = self.page.screenshot(full_page=whole, animations="disabled")
        kept = Image.open(BytesIO(seen)).convert("RGB").quantize(COLOURS)
        Path(folder).mkdir(parents=True, exist_ok=True)
        kept.save(Path(folder) / f"{name}.png", optimize=True)

    def forgive(self, words: str) -> None:
        """What was provoked by the test is no trouble, if it came."""
        before = len(self.troubles)
        self.troubles[:] = [one for one in self.troubles if words not in one]
        assert len(self.troubles) < before, f"nobody said {words!r}"

    def _answered(self, response: Response) -> None:
        path = urlsplit(response.url).path
        if response.status >= ERROR and not is_prefects_own(response.status, path):
            self.troubles.append(f"{response.status} {response.request.method} {path}")

    def _said(self, message: ConsoleMessage) -> None:
        # Of a request that failed the console says less than is known of it anyway.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.troubles.append(message.text)


def is_prefects_own(status: int, path: str) -> bool:
    """Whether Prefect's page asks so of every server, ours or not."""
    return any(status == known and words.search(path) for known, words in PREFECTS_OWN)


@contextmanager
def looking(browser: Browser, url: str) -> Iterator[Looked]:
    """A new page that can reach this computer and nobody else: Prefect's tells its makers of it."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", timezone_id="UTC"
    )
    context.route(lambda asked: urlsplit(asked).hostname != HERE, lambda route: route.abort())
    looked = Looked(context.new_page(), url)
    looked.page.set_default_timeout(WAIT_MS)
    looked.page.on("pageerror", lambda error: looked.troubles.append(str(error)))
    looked.page.on("response", looked._answered)
    looked.page.on("console", looked._said)
    try:
        yield looked
    finally:
        context.close()
