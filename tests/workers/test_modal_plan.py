"""The plan of a Modal app: both sides of it agree, and nothing in it runs by accident."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.catalog.catalog import Environment, ModelFile
from nightkiln.core.errors import BadInput
from nightkiln.providers.modal import ModalTerms, contract
from nightkiln.providers.modal.deploying import deploy_of, tag_of
from workers import modal_plan
from workers.modal_plan import place_of, read_plan

SDXL = ModelFile("checkpoints/sdxl.safetensors", "https://example.org/sdxl", "a" * 64)
NODES = ("https://github.com/example/nodes", "v1.2")
ENVIRONMENT = Environment("0.3.75", (NODES,), (SDXL,))
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


def test_a_deploy_says_what_the_app_reads() -> None:
    deploy = deploy_of(ENVIRONMENT, ModalTerms(gpus=("L4", "A10")), commit="c0ffee")

    plan = read_plan(json.dumps(deploy.plan))

    assert plan.digest == ENVIRONMENT.digest
    assert (plan.comfyui, plan.custom_nodes, plan.gpus) == ("0.3.75", (NODES,), ("L4", "A10"))
    assert (plan.models[0].path, plan.models[0].place) == (
        SDXL.path,
        f"{'a' * 64}/sdxl.safetensors",
    )
    assert plan.tag == deploy.tag == f"git-c0ffee-env-{ENVIRONMENT.digest[:16]}"


@given(DIGESTS)
def test_both_sides_name_an_environment_alike(digest: str) -> None:
    assert contract.mark_of(digest) == modal_plan.mark_of(digest)
    assert contract.CONTRACT == modal_plan.CONTRACT


@given(DIGESTS, DIGESTS, st.booleans())
def test_a_tag_is_one_that_modal_takes(commit: str, digest: str, is_dirty: bool) -> None:  # noqa: FBT001
    tag = tag_of(f"{commit[:40]}{'-dirty' if is_dirty else ''}", digest)

    assert len(tag) <= 50
    assert all(letter.isalnum() or letter in "-._" for letter in tag)
    assert ("dirty" in tag) == is_dirty


def test_a_folder_without_git_has_a_tag_too() -> None:
    assert tag_of("", "b" * 64) == "git-none-env-bbbbbbbbbbbbbbbb"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (replace(ENVIRONMENT, comfyui=None), "no version"),
        (replace(ENVIRONMENT, comfyui="0.3; rm -rf /"), "no version"),
        (replace(ENVIRONMENT, custom_nodes=(("https://x.org/a", "main; true"),)), "no repository"),
        (replace(ENVIRONMENT, custom_nodes=(("git@x.org:a", "main"),)), "no repository"),
        (replace(ENVIRONMENT, custom_nodes=(("https://x.org/a", "--upload"),)), "no repository"),
        (replace(ENVIRONMENT, custom_nodes=(("https://x.org/.git", "main"),)), "no repository"),
        (replace(ENVIRONMENT, custom_nodes=(NODES, ("https://x.org/nodes/", "v1"))), "two have"),
        (replace(ENVIRONMENT, models=(replace(SDXL, url=None),)), "no address"),
    ],
)
def test_an_environment_that_cannot_be_built_is_refused(
    environment: Environment, says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        deploy_of(environment, ModalTerms(), commit="")


@pytest.mark.parametrize(
    "told",
    [
        {"comfyui": "0.3 && true"},
        {"custom_nodes": [["https://x.org/$(id)", "main"]]},
        {"custom_nodes": [["https://x.org/a b", "main"]]},
        {"custom_nodes": [["https://x.org/a", "main;id"]]},
        {"custom_nodes": [["https://x.org/~", "main"]]},
        {"custom_nodes": [["https://x.org/a", "v1"], ["https://y.org/a.git", "v2"]]},
        {"models": [{"path": "../x", "sha256": None, "url": "https://x.org"}]},
        {"models": [{"path": "/etc/passwd", "sha256": None, "url": "https://x.org"}]},
        {"surprise": 1},
    ],
)
def test_a_plan_that_would_run_or_write_something_else_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_plan(json.dumps(told))


WORDS = st.text(st.sampled_from("abcZ09._-/~ ;$`'\"\\\n|&()<>*{}#!"), max_size=40)


@given(st.sampled_from(["https://", "https://x.org/", "git@", "-"]), WORDS, WORDS)
def test_whatever_a_catalog_names_both_sides_refuse_or_neither(
    scheme: str, rest: str, ref: str
) -> None:
    """So that no deploy fails in a traceback of the app that it has just sent."""
    node = (scheme + rest, ref)
    try:
        plan = deploy_of(replace(ENVIRONMENT, custom_nodes=(node,)), ModalTerms(), commit="").plan
    except BadInput:
        with pytest.raises(ValueError, match=r"."):
            read_plan(json.dumps({"custom_nodes": [node]}))
    else:
        [(repo, kept)] = read_plan(json.dumps(plan)).custom_nodes
        words = f"git clone {repo} && git checkout {kept}"
        assert shlex.split(words)[2:] == [repo, "&&", "git", "checkout", kept]


@given(st.text(), st.none() | st.text(), st.text())
def test_no_model_lies_outside_of_the_volume(path: str, sha256: str | None, url: str) -> None:
    try:
        place = place_of(path, sha256, url)
    except (ValueError, UnicodeEncodeError):
        return

    assert not place.startswith("/")
    assert ".." not in place.split("/")[:1]
    assert place.count("/") == 1
