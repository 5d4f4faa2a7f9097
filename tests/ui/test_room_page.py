"""The control room in a real browser: its form, a batch from it, a cancellation.

One night on rented machines is in test_room_night.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.ui.control import Control
from tests.ui.looked import Looked
from tests.ui.timeline import DONE

pytestmark = pytest.mark.ui

JOBS = 24  # of catalogs/demo
RENDER_S = 1.2
LONG_S = 4.0  # that a picture takes which nobody waits for
HATED = "ibex"  # one of its prompts, on which every machine fails
DESCRIPTION = "p.text-muted-foreground"
PROGRESS = re.compile(rf"(\d+)/{JOBS} done")
RUN_PAGE = re.compile(r"/runs/flow-run/([0-9a-f-]{36})")


def open_form(looked: Looked) -> None:
    """As somebody gets there who has only the server's address."""
    page = looked.page
    looked.goes("/")
    page.get_by_role("link", name="Deployments").click()
    page.locator("a[href*='/deployments/deployment/']", has_text="adhoc").first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_label("Name of the batch").wait_for()


def submit(looked: Looked) -> str:
    """Send the form, and follow to the run; its id."""
    looked.sends("Submit", "/create_flow_run")
    looked.page.get_by_text("View run").first.click()
    looked.page.wait_for_url(RUN_PAGE)
    found = RUN_PAGE.search(looked.page.url)
    assert found is not None
    return found[1]


def described(schema: Mapping[str, Any], name: str) -> Iterator[str]:
    """What is written below the fields of one box."""
    for field in schema["definitions"][name]["properties"].values():
        yield field["description"]


def is_shown(looked: Looked, text: str) -> bool:
    found = looked.page.locator(DESCRIPTION).filter(has_text=text)
    return found.count() > 0 and found.first.is_visible()


def choices(looked: Looked, field: str) -> list[str]:
    """What can be chosen in a field."""
    looked.page.get_by_label(re.compile(rf"^(Select )?{field}( \\(Optional\\))?$")).click()
    looked.page.get_by_role("option").first.wait_for()
    found = looked.page.get_by_role("option").all_inner_texts()
    looked.page.keyboard.press("Escape")
    looked.page.wait_for_function("document.querySelector('[role=option]') === null")
    return found


@pytest.fixture(scope="module")
def schema(control: Control) -> Mapping[str, Any]:
    return control.form("adhoc")


def test_the_form_describes_every_field_what_can_be_chosen_and_a_tab_for_each_provider(
    looked: Looked, schema: Mapping[str, Any]
) -> None:
    open_form(looked)
    page = looked.page

    looked.keep("form")
    fields = schema["definitions"]["BatchParams"]["properties"]
    labels = page.locator("label").all_inner_texts()
    for field in fields.values():
        assert is_shown(looked, field["description"]), field["title"]
        assert any(label.startswith(field["title"]) for label in labels), field["title"]
        if "enum" in field:
            assert choices(looked, field["title"]) == field["enum"]
    assert (
        "any host sees your prompts"
        in looked.page.locator(DESCRIPTION).filter(has_text="Who may run the machines").inner_text()
    )

    for tab, box in (("local", "LocalOptions"), ("vast", "VastOptions"), ("modal", "ModalOptions")):
        looked.page.get_by_role("tab", name=tab, exact=True).click()
        missing = [text for text in described(schema, box) if not is_shown(looked, text)]
        assert missing == []
    looked.page.get_by_role("tab", name="vast", exact=True).click()
    looked.page.get_by_role("tab", name="vast", exact=True).scroll_into_view_if_needed()
    looked.keep("form-vast")


def test_bad_values_are_refused_at_their_fields_and_no_run_exists(
    looked: Looked, control: Control
) -> None:
    before = control.names()
    open_form(looked)
    limit = looked.page.get_by_label("Limit", exact=False)

    limit.fill("-5")
    looked.page.get_by_role("button", name="Submit").click()
    assert "greater than or equal to 0" in limit.evaluate("one => one.validationMessage")
    limit.fill("0")
    looked.page.get_by_label("Deadline").fill("tomorrow")
    looked.page.get_by_role("button", name="Submit").click()

    looked.says(re.compile("'tomorrow' does not match"))
    looked.says(re.compile("Validation failed for field 'params.by'"))
    looked.page.get_by_label("Deadline").scroll_into_view_if_needed()
    looked.keep("form-refused")
    assert control.names() == before
    looked.forgive("409 POST")
    looked.forgive("params.by")


def test_a_batch_from_the_form_is_watched_until_its_receipt(
    looked: Looked, control: Control
) -> None:
    with control.stand_ins(render_s=RENDER_S, faults=(f"error~{HATED}",)):
        open_form(looked)
        run = submit(looked)
        seen = looked.counts(PROGRESS, above=0)
        assert JOBS > looked.counts(PROGRESS, above=seen) > seen
        looked.goes(f"/v2/runs/flow-run/{run}?tab=Artifacts")
        looked.says("nightkiln-progress")
        looked.keep("run-running")
        state = control.ended(run)
    assert state["type"] == "FAILED", state
    assert "1 failed" in state["message"]

    leases = [one["name"] for one in control.task_runs(run) if one["name"].startswith("local")]
    looked.goes(f"/v2/runs/flow-run/{run}?tab=TaskRuns")
    assert len(leases) == 2
    for lease in leases:
        looked.says(lease)
    assert looked.bars()[DONE] >= len(leases)
    looked.goes(f"/v2/runs/flow-run/{run}?tab=Artifacts")
    looked.says("nightkiln-receipt")
    looked.bars()
    looked.keep("run-failed")
    for key, words in (("receipt", "What went wrong"), ("failures", HATED), ("fleet", leases[0])):
        looked.goes(control.artifact(run, f"nightkiln-{key}"))
        looked.says(words)
        looked.keep(f"failed-{key}")
    looked.goes(control.artifact(run, "nightkiln-gallery"))
    looked.follows("pictures of")
    looked.page.wait_for_load_state()
    looked.page.wait_for_function("isWhole && grid.shown.length === 24")


@pytest.mark.long
def test_a_run_is_cancelled_in_its_page_and_says_what_is_left(
    looked: Looked, control: Control
) -> None:
    with control.stand_ins(render_s=LONG_S):
        run = control.run(
            "adhoc", {"catalog": "catalogs/demo", "fresh": True, "name": "called-off"}
        )
        looked.goes(f"/v2/runs/flow-run/{run}")
        looked.counts(PROGRESS, above=0)
        looked.chooses("Cancel")
        looked.keep("run-cancel")
        looked.sends("Cancel Flow Run", "/set_state")
        state = control.ended(run)

    assert state["type"] == "CANCELLED", state
    looked.goes(f"/v2/runs/flow-run/{run}")
    looked.says("Cancelled")
    looked.bars()
    looked.keep("run-cancelled")
    looked.goes(control.artifact(run, "nightkiln-receipt"))
    looked.says("jobs are left")
