"""What a machine fetches, as the controller sees it; the machine's side has tests of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightkiln.catalog.catalog import Environment, ModelFile
from nightkiln.catalog.models import SENT_BYTES_MAX
from nightkiln.core.errors import BadInput, WorkerLost
from nightkiln.core.model import Loss
from nightkiln.machine.goods import Goods, Model
from nightkiln.machine.progress import progress
from nightkiln.machine.rendering import rendering
from nightkiln.machine.scripts import provision_program
from nightkiln.testing.waiting import until
from tests.machine.place import QUICK, Place, place
from tests.machine.test_signed import SIGNED, ModelHost
from tests.nested import nested

# Stands in for provision.py: writes down that it ran, and then whatever status it is told.
PROGRAM = """
import json, os, pathlib, time
here = pathlib.Path(__file__).parent
with (here / "runs").open("a") as runs:
    runs.write("x")
def says(**status):
    (here / "status.new").write_text(json.dumps(status))
    os.replace(here / "status.new", here / "status.json")
def urls():
    return json.loads((here / "urls.json").read_text())
"""
MODEL = Model("checkpoints/x.safetensors", "https://models.example/x", sha256="0" * 64, size=7)


def goods(program: str, *models: Model) -> Goods:
    return Goods(models or (MODEL,), program=(PROGRAM + program).encode())


async def stay_until_ready(here: Place, what: Goods, **changes: object) -> None:
    async with rendering(here.stay(goods=what, **changes)):
        pass


def brought(here: Place, name: str) -> Path:
    return here.ours / "provision" / name


async def test_a_machine_is_told_what_to_fetch_and_renders_once_it_has_it(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        what = replace(goods("says(state='done')"), custom_nodes=(("https://git/x", "v1"),))

        await stay_until_ready(here, what)

        assert json.loads(brought(here, "plan.json").read_text()) == {
            "models": [{"path": MODEL.path, "sha256": MODEL.sha256, "bytes": 7}],
            "custom_nodes": [{"repo": "https://git/x", "ref": "v1"}],
            "parallel": 4,
            "restart": "supervisorctl restart comfyui",
            "tries": 6,
            "pause_s": 5.0,
        }
        assert json.loads(brought(here, "urls.json").read_text()) == {MODEL.path: [MODEL.url]}
        assert here.stages()[-1] == "ready"


async def test_a_machine_that_is_taken_over_is_not_provisioned_twice(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        what = goods("says(state='done')")
        await stay_until_ready(here, what)

        await stay_until_ready(here, what)

        assert brought(here, "runs").read_text() == "x"


async def test_an_address_that_expires_is_renewed_without_giving_the_token_away(
    tmp_path: Path,
) -> None:
    async with ModelHost().opened() as host, place(tmp_path) as here:
        program = """
first = urls()
says(state="needs_urls", waiting_for=["checkpoints/private"])
while urls() == first:
    time.sleep(0.05)
says(state="done")
"""
        what = replace(host.goods("private"), program=(PROGRAM + program).encode())
        arriving = asyncio.create_task(stay_until_ready(here, what))
        await until(brought(here, "urls.json").exists)

        host.redirect_to = SIGNED + "-renewed"
        await arriving

        [[address]] = json.loads(brought(here, "urls.json").read_text()).values()
        assert address == SIGNED + "-renewed"
        await here.body.stop()  # else files are renamed while they are read
        everything = b"".join(path.read_bytes() for path in here.ours.rglob("*") if path.is_file())
        assert b"hf_secret" not in everything


@pytest.mark.nights
@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "says(state='failed', kind='checksum', why='x.safetensors\\x1b[2J is\\nanother')",
            "provisioning failed: checksum: x.safetensors [2J is another",
        ),
        ("says(state='failed', kind='?', why=None)", "provisioning failed: unknown: "),
        (
            "while True:\n    says(state='needs_urls', waiting_for=[*urls()], beat=time.time())",
            "the addresses of models expire faster than they can be fetched",
        ),
    ],
)
async def test_a_machine_that_cannot_be_provisioned_says_why_in_the_same_words(
    tmp_path: Path, program: str, said: str
) -> None:
    async with place(tmp_path) as here:
        with pytest.raises(WorkerLost) as lost:
            await stay_until_ready(here, goods(program))

    assert str(lost.value) == said
    assert lost.value.loss is Loss.STARTUP


async def test_a_machine_on_which_provisioning_says_nothing_is_given_up(tmp_path: Path) -> None:
    limits = replace(QUICK, provisioning_silent_s=0.5)
    async with place(tmp_path) as here:
        with pytest.raises(WorkerLost, match="ends on the machine without a word") as lost:
            await stay_until_ready(here, goods("raise SystemExit"), limits=limits)

    assert lost.value.loss is Loss.STARTUP


async def test_a_machine_that_fetches_too_slowly_is_given_up(tmp_path: Path) -> None:
    limits = replace(QUICK, download_mbps_min=25.0, download_judged_after_s=0.5)
    loading = "{'checkpoints/x.safetensors': {'done': 1, 'total': 7, 'state': 'loading'}}"
    program = f"while True:\n    says(state='working', mbps=3.0, files={loading})"
    async with place(tmp_path) as here:
        with pytest.raises(WorkerLost, match="fewer than 25 megabits a second") as lost:
            await stay_until_ready(here, goods(program), limits=limits)

        assert ("provisioning", {
            "state": "working", "bytes_done": 1, "bytes_total": 7, "mbps": 3.0,
        }) in here.told  # fmt: skip
    assert lost.value.loss is Loss.SLOW


async def test_a_model_of_this_computer_is_pushed_and_goes_on_where_it_was_cut_off(
    tmp_path: Path,
) -> None:
    content = hashlib.shake_128(b"weights").digest(12_000_000)
    (tmp_path / "lora").write_bytes(content)
    model = Model("loras/our own.safetensors", file=tmp_path / "lora")
    async with place(tmp_path) as here:
        here.road.cut_after_bytes = 10_000_000

        await stay_until_ready(here, goods("says(state='done')", model))

        pushed = brought(here, "pushed/loras/our own.safetensors")
        done = [int(str(facts["bytes_done"])) for stage, facts in here.told if stage == "pushing"]
        resumed = [later for earlier, later in pairwise(done) if later < earlier]
        assert pushed.read_bytes() == content
        assert resumed
        assert resumed[-1] != 0
        assert ("connection", {"state": "mended"}) in here.told


def test_goods_are_what_the_catalog_asks_for(tmp_path: Path) -> None:
    (tmp_path / "lora").write_bytes(b"weights")
    environment = Environment(
        models=(
            ModelFile("checkpoints/x", "https://models.example/x", "0" * 64, 6.9),
            ModelFile("loras/y"),
        ),
        custom_nodes=(("https://git/x", "v1"),),
    )

    found = Goods.of(environment, program=b"", files={"loras/y": tmp_path / "lora"})

    assert found.models == (
        Model("checkpoints/x", "https://models.example/x", None, "0" * 64, None),
        Model("loras/y", None, tmp_path / "lora", hashlib.sha256(b"weights").hexdigest(), 7),
    )
    assert not found.is_empty
    assert Goods().is_empty


@pytest.mark.parametrize(
    "model",
    [
        Model("../escape", "https://models.example/x"),
        Model("/etc/passwd", "https://models.example/x"),
        Model("", "https://models.example/x"),
        Model("checkpoints/a\nb", "https://models.example/x"),
        Model("checkpoints/x"),
        Model("checkpoints/x", "file:///etc/passwd"),
        Model("checkpoints/x", file=Path("/nowhere")),
    ],
)
def test_goods_that_cannot_be_brought_are_refused_at_once(model: Model) -> None:
    with pytest.raises(BadInput, match=r"^environment\.models"):
        Goods((model,))


def test_a_model_that_could_not_be_verified_is_refused_at_once() -> None:
    environment = Environment(models=(ModelFile("checkpoints/x", "https://models.example/x"),))

    with pytest.raises(BadInput, match="has no sha256"):
        Goods.of(environment, program=b"")


def test_a_model_too_large_to_push_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(SENT_BYTES_MAX + 1)

    with pytest.raises(BadInput, match="put it on a server"):
        Goods((Model("checkpoints/x", file=tmp_path / "large"),))


JSON = nested(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    keys=st.text(max_size=5),
)


@given(
    st.fixed_dictionaries(
        {"state": st.sampled_from(["working", "failed"])},
        optional=dict.fromkeys(("kind", "why", "waiting_for", "files", "mbps"), JSON),
    )
)
def test_a_status_of_any_shape_is_read(status: dict[str, object]) -> None:
    seen = progress(json.dumps(status))

    assert seen is not None
    assert seen.state == status["state"]
    assert seen.bytes_done >= 0


@given(st.text() | JSON.map(json.dumps))
@example('{"state": ["done"]}')
@example('{"state": {}}')
def test_what_is_no_status_is_none(text: str) -> None:
    seen = progress(text)

    assert seen is None or "state" in text


async def test_the_real_program_brings_a_private_model_to_the_machine(tmp_path: Path) -> None:
    content = hashlib.shake_128(b"weights").digest(300_000)
    name = "checkpoints/tiny-private.safetensors"
    async with ModelHost(content=content).opened() as host, place(tmp_path) as here:
        host.redirect_to = f"http://localhost:{host.port}/content?signature=1"
        [model] = host.goods("private").models
        model = replace(
            model, path=name, sha256=hashlib.sha256(content).hexdigest(), size=len(content)
        )
        what = replace(host.goods(), models=(model,), program=provision_program())

        await stay_until_ready(here, what)

        assert (here.body.home / "ComfyUI" / "models" / name).read_bytes() == content
        assert ("content", None) in host.asked
